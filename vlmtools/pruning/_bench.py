"""What a pruner really saves on one model: times, operations and cache at several budgets, beside theory.

Every budget runs in one process on one model, in turn, round after round, in an order drawn anew each time, so that
what slows the machine slows all of them. A ratio is taken within a round; its interval is a bootstrap over the rounds
of the mean log ratio. The unpruned model comes twice: the second time shows the noise.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._cache import held_cache
from vlmtools.families._probe import Anatomy, anatomy, bare
from vlmtools.pruning._cost import Shape, cache_bytes, prefill_flops
from vlmtools.pruning._measured import STAGES, Facts, Measured, Ratio
from vlmtools.pruning.base import Pruned, TokenPruner
from vlmtools.stats.resample import item_counts, percentile

LEAST_ROUNDS = 4

Way = Callable[[], contextlib.AbstractContextManager[Any]]


def ratio(base: Sequence[float], times: Sequence[float], n_boot: int = 10_000) -> Ratio:
    """How many times faster, with a 95 % interval over the rounds.

    Args:
        base: Unpruned, one time per round.
        times: Pruned, of the same rounds.
        n_boot: Resamples.
    """
    logs = np.log(np.asarray(base) / np.asarray(times))
    draws = item_counts(len(logs), n_boot) @ logs / len(logs)
    low, high = percentile(draws, n_items=len(logs))
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)))


def measure(
    model: Any,
    batch: Mapping[str, Any],
    pruner: TokenPruner,
    keeps: Sequence[float],
    *,
    n_new: int = 16,
    rounds: int = 8,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Measured]:
    """Time, operations and cache of the unpruned model and at every budget.

    Args:
        model: A loaded Hugging Face model.
        batch: One prompt with its picture, as the processor gives it.
        pruner: The method; its own `keep` is not used.
        keeps: Budgets as `keep` takes them.
        n_new: New tokens of every answer, at least 1.
        rounds: How often everything is run, at least 4: intervals need them.
        clock: Seconds; `time.process_time` leaves out what other programs take, on one thread.

    Raises:
        BadInput: More than one prompt, or too few rounds.
        CannotAttach: The pruner does not fit the model.
    """
    if len(batch["input_ids"]) != 1 or rounds < LEAST_ROUNDS or n_new < 1:
        raise BadInput(
            f"{len(batch['input_ids'])} prompts, {rounds} rounds and {n_new} new tokens cannot be measured. Give one "
            f"prompt, at least {LEAST_ROUNDS} rounds (intervals need them) and at least 1 token."
        )
    model = bare(model)
    todo = _ways(model, pruner, keeps)
    one = _Prompt(anatomy(model), dict(batch), clock)
    facts = {way: _entered(context, one.facts) for way, context in todo.items()}  # warms up as well
    times: dict[str, list[tuple[float, ...]]] = {way: [] for way in todo}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for way in order.permutation(list(todo)):
            times[way].append(_entered(todo[way], lambda _on: one.times(n_new)))
    return [_row(way, facts[way], times) for way in todo]


def _ways(model: Any, pruner: TokenPruner, keeps: Sequence[float]) -> dict[str, Way]:
    """Name → a context in which to run."""
    plain: dict[str, Way] = {"all": contextlib.nullcontext, "again": contextlib.nullcontext}
    named: dict[str, Way] = {f"{keep:.3g}": partial(_attached, pruner, keep, model) for keep in keeps}
    return plain | named


def _attached(pruner: TokenPruner, keep: float, model: Any) -> Pruned:
    return replace(pruner, keep=keep).attach(model)


def _entered(context: Way, call: Callable[[Any], Any]) -> Any:
    with context() as on, torch.no_grad():
        return call(on)


def _row(way: str, facts: Facts, times: Mapping[str, Sequence[tuple[float, ...]]]) -> Measured:
    mine, base = (list(zip(*times[one], strict=True)) for one in (way, "all"))
    median = {stage: 1e3 * float(np.median(mine[i])) for i, stage in enumerate(STAGES)}
    if way == "all":
        return Measured(way, facts, median)
    return Measured(way, facts, median, {stage: ratio(base[i], mine[i]) for i, stage in enumerate(STAGES)})


@dataclass(slots=True)
class _Prompt:
    """One prompt that is answered again and again.

    Args:
        parts: Of the model.
        batch: The prompt.
        clock: Seconds.
    """

    parts: Anatomy
    batch: dict[str, Any]
    clock: Callable[[], float]

    def times(self, n_new: int) -> tuple[float, ...]:
        """Seconds of one answer, by stage."""
        stamps: list[float] = []
        tokens: list[float] = []

        def came(input_ids: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
            tokens.append(self._now())
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

        with self._around_prefill(lambda: stamps.append(self._now()), lambda: stamps.append(self._now())):
            begin = self._now()
            self._generate(n_new, stopping_criteria=[came])
            end = self._now()
        return stamps[1] - stamps[0], tokens[0] - begin, end - begin

    def facts(self, on: Any) -> Facts:
        """Count tokens, operations and cache of the prompt."""
        counter = _counter()
        with self._around_prefill(counter.__enter__, lambda: counter.__exit__(None, None, None)):
            out = self._generate(1, return_dict_in_generate=True)
        ids = self.batch["input_ids"]
        pruned = isinstance(on, Pruned)
        n_prompt = on.report().length_after if pruned else ids.shape[1]
        n_visual = on.report().n_after if pruned else int((ids == self.parts.image_token_id).sum())
        held = list(_tensors(held_cache(out)))
        shape = Shape.of(self.parts.model.config)
        theory = prefill_flops(shape, n_prompt)
        counted = float(counter.get_total_flops())
        return Facts(
            n_prompt,
            n_visual,
            counted if counted > theory / 2 else float("nan"),
            theory,
            sum(one.numel() * one.element_size() for one in held),
            cache_bytes(shape, n_prompt, held[0].element_size() if held else 2),
        )

    def _generate(self, n_new: int, **options: Any) -> Any:
        plain = {"do_sample": False, "num_beams": 1, "max_new_tokens": n_new, "min_new_tokens": n_new}
        return self.parts.model.generate(**self.batch, **plain, **options)

    def _now(self) -> float:
        if self.batch["input_ids"].is_cuda:
            torch.cuda.synchronize()
        return self.clock()

    @contextlib.contextmanager
    def _around_prefill(self, before: Callable[[], object], after: Callable[[], object]) -> Iterator[None]:
        """Call something in front of and behind the decoder's first pass."""
        seen: list[str] = []

        def enter(*_args: Any) -> None:
            if not seen:
                seen.append("in")
                before()

        def leave(*_args: Any) -> None:
            if seen == ["in"]:
                seen.append("out")
                after()

        decoder = self.parts.decoder
        handles = [decoder.register_forward_pre_hook(enter), decoder.register_forward_hook(leave)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _tensors(cache: Any) -> Iterator[Tensor]:
    """Keys and values of every layer of a cache."""
    for layer in getattr(cache, "layers", ()):
        for one in (getattr(layer, "keys", None), getattr(layer, "values", None)):
            if isinstance(one, Tensor):
                yield one


def _counter() -> Any:
    """Counts operations; torch leaves out attention on the CPU unless told its formula."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        return sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={on_cpu: attention})


def noise_picture(side: int = 336) -> Any:
    """A picture whose content does not matter, for times.

    Args:
        side: In pixels.
    """
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
