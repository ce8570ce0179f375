"""A limit on what a run may spend, checked before every batch of calls."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlmtools.errors import BadInput, BudgetSpent, suggest
from vlmtools.types import Json, Reply, Request, Responder

LIMITS = ("calls", "tokens", "minutes", "cost")


@dataclass
class Budget:
    """Counts what is spent and stops the run cleanly when a limit is reached; None is no limit.

    Args:
        calls: Model and judge calls.
        tokens: Tokens read and written, as the models report them.
        minutes: Wall-clock minutes from now.
        cost: Money, in the currency of `price`.
        price: Price of a million tokens read and of a million tokens written.
    """

    calls: float | None = None
    tokens: float | None = None
    minutes: float | None = None
    cost: float | None = None
    price: tuple[float, float] | None = None
    _spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0.0))
    _started: float = field(default_factory=time.monotonic)

    @classmethod
    def parse(cls, limits: Sequence[str], price: tuple[float, float] | None = None) -> "Budget | None":
        """Read `calls=500`, `tokens=200000`, `minutes=30`, `cost=2.5`; no limits at all give None.

        Raises:
            BadInput: An unknown limit, not a positive number, or `cost` without a price.
        """
        values: dict[str, Any] = {}
        for limit in limits:
            name, _, number = limit.partition("=")
            if name not in LIMITS:
                raise BadInput(f"--budget {limit!r}: there is no limit {name!r}.{suggest(name, LIMITS)}")
            values[name] = _positive(limit, number)
        if "cost" in values and price is None:
            raise BadInput(
                "--budget cost=… needs prices. Add --price IN,OUT: the price of a million tokens each way."
            )
        return cls(**values, price=price) if values else None

    def spend(self, reply: Reply) -> None:
        """Count one call."""
        read, written = reply.n_prompt_tokens or 0, reply.n_new_tokens or 0
        self._spent["calls"] += 1
        self._spent["tokens"] += read + written
        if self.price is not None:
            self._spent["cost"] += (read * self.price[0] + written * self.price[1]) / 1e6

    def room(self, most: int) -> int:
        """How many calls may be made now, at least 1 and at most `most`.

        Raises:
            BudgetSpent: A limit is reached.
        """
        self._spent["minutes"] = (time.monotonic() - self._started) / 60
        for name in LIMITS:
            limit = getattr(self, name)
            if limit is not None and self._spent[name] >= limit:
                raise BudgetSpent(
                    f"the budget of {limit:g} {name} is used up. Every answer and vote so far is kept: "
                    "run the same line again, with a new budget, to go on."
                )
        calls_left = most if self.calls is None else int(self.calls - self._spent["calls"])
        # Tokens, time and money are known only after a call, so small steps keep the overshoot small.
        step = most if self.tokens is None and self.cost is None and self.minutes is None else min(most, 16)
        return max(1, min(calls_left, step))


@dataclass(frozen=True)
class Metered:
    """A responder whose calls are paid from a budget: it stops, by BudgetSpent, before the call that would be too much.

    Args:
        inner: Who really answers.
        budget: What pays.
    """

    inner: Responder
    budget: Budget

    @property
    def name(self) -> str:
        """The inner responder's name."""
        return self.inner.name

    def identity(self) -> Mapping[str, Json]:
        """The inner responder's identity: paying changes no answer."""
        return self.inner.identity()

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield the inner responder's replies, in steps the budget has room for."""
        start = 0
        while start < len(requests):
            step = self.budget.room(len(requests) - start)
            for request, reply in self.inner.answer(requests[start : start + step]):
                self.budget.spend(reply)
                yield request, reply
            start += step

    def close(self) -> None:
        """Close the inner responder."""
        self.inner.close()


def _positive(limit: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise BadInput(f"--budget {limit!r}: expected a positive number after '=', for example calls=500.")
    return value
