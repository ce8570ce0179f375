"""What a benchmark is made of: an answer, its scored row, and sums over rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Float

from vlmtools.types import Json

Values = Float[np.ndarray, "*boot"]
"""One number, or one per resample: arithmetic and numpy functions treat both alike."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer to score.

    Args:
        text: What the model wrote, untouched.
        fields: The other fields of the row it was read from (a stored verdict of a judge, a time); empty when the model
            was asked just now.
        verdicts: What the judge replied to `Benchmark.questions`, in that order; empty without a judge. None stands for
            a reply that failed.
    """

    text: str
    fields: Mapping[str, Json] = field(default_factory=dict)
    verdicts: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One scored answer: what a per-answer dump holds, and what metrics are computed from.

    Args:
        id: The item.
        answer: What the model wrote.
        parsed: What the rule read out of it ("yes", "no", a letter, …); None when it could read nothing. An official
            rule that counts unreadable answers as "yes" still writes None here and "yes" into its numbers.
        label: The truth in the same terms; None where an answer is not right or wrong as a whole.
        correct: Whether the answer is right (of a caption: whether it is free of hallucination); None where it is not
            right or wrong as a whole. Two runs are compared by it item by item.
        numbers: Name → number. They are added up over rows and handed to `metrics`; write 0 and 1 for counts.
        cluster: Rows that are not independent share it (same image, same video, same pair): they are resampled
            together. Empty takes the id.
        detail: Anything worth reading in a dump (hallucinated words, …); nothing is computed from it.
    """

    id: str = ""
    answer: str = ""
    parsed: str | None = None
    label: str | None = None
    correct: bool | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    cluster: str = ""
    detail: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """The row of a dump."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Total(dict[str, Values]):
    """Sums of `Row.numbers`; a name no row has is 0, as for a split without items."""

    def __missing__(self, name: str) -> Values:
        """Nothing was counted under this name."""
        return np.zeros(())


def ratio(part: Values | float, whole: Values | float, empty: float = 0.0) -> Values:
    """`part / whole`, elementwise.

    Args:
        part: Numerator.
        whole: Denominator.
        empty: Value of 0/0. NaN leaves a resample out of the interval and prints a metric as missing.
    """
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=float), np.asarray(whole, dtype=float))
    quotient: Values = np.divide(part, whole, out=np.full(part.shape, empty), where=whole != 0)
    return quotient


def totals(rows: Iterable[Row]) -> Total:
    """The sums of all rows' numbers, with `n`."""
    sums: dict[str, float] = {"n": 0.0}
    for row in rows:
        sums["n"] += 1
        for name, number in row.numbers.items():
            sums[name] = sums.get(name, 0.0) + number
    return Total({name: np.asarray(value) for name, value in sums.items()})
