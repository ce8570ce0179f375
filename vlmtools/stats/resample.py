"""Draw items with replacement, and turn what was computed in each draw into an interval."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from vlmtools.errors import BadInput

N_BOOT = 2000
"""Resamples drawn unless the user says otherwise: enough for two digits of a 95 % interval."""


WINDOW = 4096
"""Items whose draws are made together: beyond, `Resamples` draws window by window."""


class Counts(Protocol):
    """How often each item was drawn in each resample: an array [boot, item], or `Resamples` for very many items."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(resamples, items)."""
        ...

    def __getitem__(self, index: Any, /) -> Any:
        """The columns of a stretch of items, with `[:, start:stop]`."""
        ...


class Resamples:
    """Draws of any number of items, made when a stretch of items is looked at and not kept.

    Up to 4,096 items these are the draws of `item_counts`. With more, every resample first says how many of its draws
    fall into each window of 4,096 items (a multinomial), then which: the same distribution, drawn in an order that lets
    the items be gone through once.

    Args:
        n_items: Number of items, at least 1.
        n_boot: Number of resamples, at least 1.
        seed: Seed of the generators.
    """

    def __init__(self, n_items: int, n_boot: int = N_BOOT, seed: int = 0) -> None:
        _must_draw(n_items, n_boot)
        self.shape = (n_boot, n_items)
        self._seed = seed
        self._window = lru_cache(maxsize=1)(self._draw)
        self._split: Int[np.ndarray, "boot window"] | None = None

    def __getitem__(self, index: tuple[slice, slice]) -> Int[np.ndarray, "boot item"]:
        """Draws of a stretch of items: `resamples[:, start:stop]`."""
        rows, columns = index
        start, stop, _ = columns.indices(self.shape[1])
        windows = range(start // WINDOW, -(-max(stop, start + 1) // WINDOW))
        found = np.concatenate([self._window(window) for window in windows], axis=1)
        offset = windows[0] * WINDOW
        return np.asarray(found[rows, start - offset : stop - offset])

    def _draw(self, window: int) -> Int[np.ndarray, "boot item"]:
        n_boot, n_items = self.shape
        if n_items <= WINDOW:
            return _draws(n_items, n_boot, self._seed, np.uint16)
        size = min(WINDOW, n_items - window * WINDOW)
        random = np.random.default_rng((self._seed, 1, window))
        found = np.empty((n_boot, size), dtype=np.uint16)
        for row, n_draws in zip(found, self._draws_in()[:, window], strict=True):
            row[:] = np.bincount(random.integers(0, size, size=n_draws), minlength=size)
        return found

    def _draws_in(self) -> Int[np.ndarray, "boot window"]:
        if self._split is None:
            n_boot, n_items = self.shape
            sizes = np.diff(np.append(np.arange(0, n_items, WINDOW), n_items))
            random = np.random.default_rng((self._seed, 0))
            self._split = random.multinomial(n_items, sizes / n_items, size=n_boot)
        return self._split


def drawn(counts: Counts | None, start: int, stop: int) -> Float[np.ndarray, "boot item"]:
    """How often the items from `start` to before `stop` were drawn.

    Args:
        counts: Of all items; None is one resample with each item once.
        start: Place of the first item.
        stop: One past the last.
    """
    if counts is None:
        return np.ones((1, stop - start))
    return np.asarray(counts[:, start:stop], dtype=float)


def item_counts(
    n_items: int, n_boot: int = N_BOOT, seed: int = 0, clusters: Sequence[object] | None = None
) -> Int[np.ndarray, "boot item"]:
    """How often each item is drawn in each resample.

    Any statistic that is a sum over items is then one matrix product for all resamples.

    Args:
        n_items: Number of items, at least 1.
        n_boot: Number of resamples, at least 1.
        seed: Seed of the generator; the same seed gives the same draws on every machine.
        clusters: A label per item. Items with the same label (questions about one picture) are drawn
            together, so the number of items varies between resamples. None draws single items.

    Raises:
        BadInput: No items, no resamples, or a wrong number of labels.
    """
    _must_draw(n_items, n_boot)
    if clusters is None:
        return _draws(n_items, n_boot, seed)
    if len(clusters) != n_items:
        raise BadInput(
            f"There are {len(clusters)} cluster labels for {n_items} items. Give one label per item."
        )
    numbers = {label: number for number, label in enumerate(dict.fromkeys(clusters))}
    member = np.array([numbers[label] for label in clusters])
    return np.asarray(_draws(len(numbers), n_boot, seed)[:, member])


def jackknife_counts(n_items: int) -> Int[np.ndarray, "item item"]:
    """Each row leaves out one item: what `bca` needs besides the resamples."""
    return np.ones((n_items, n_items), dtype=np.int64) - np.eye(n_items, dtype=np.int64)


def percentile(
    samples: Float[np.ndarray, "boot *rest"], level: float = 0.95, n_items: int | None = None
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Percentile interval over the resamples, NaN resamples left out.

    Args:
        samples: The statistic in each resample.
        level: Coverage, between 0 and 1.
        n_items: When given, the interval is widened for small samples: it then covers like Student's t
            instead of like the normal ("expanded percentile", Hesterberg 2015,
            doi:10.1080/00031305.2015.1089789). None (neutral) is the plain interval; with 200 items the two
            agree to about 1 %.
    """
    tail = (1.0 - _checked(level)) / 2
    if n_items is not None:
        tail = _expanded(tail, n_items)
    return _quantiles(samples, tail, 1.0 - tail)


def bca(
    samples: Float[np.ndarray, "boot"],
    observed: float,
    jackknife: Float[np.ndarray, "item"],
    level: float = 0.95,
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of one statistic.

    Args:
        samples: The statistic in each resample.
        observed: The statistic on the data.
        jackknife: The statistic with each item left out (see `jackknife_counts`).
        level: Coverage, between 0 and 1.

    Reference: Efron 1987, doi:10.1080/01621459.1987.10478410.
    """
    from scipy.special import ndtr, ndtri

    below = np.mean(samples < observed) + np.mean(samples == observed) / 2
    bias = ndtri(np.clip(below, 0.5 / len(samples), 1 - 0.5 / len(samples)))
    away = np.mean(jackknife) - np.asarray(jackknife)
    spread = 6 * np.sum(away**2) ** 1.5
    bend = float(np.sum(away**3) / spread) if spread > 0 else 0.0
    tail = (1.0 - _checked(level)) / 2
    shifted = [bias + ndtri(t) for t in (tail, 1.0 - tail)]
    low, high = (float(ndtr(bias + z / (1 - bend * z))) for z in shifted)
    found = np.quantile(samples, [low, high])
    return float(found[0]), float(found[1])


def _must_draw(n_items: int, n_boot: int) -> None:
    if n_items < 1 or n_boot < 1:
        raise BadInput(f"Asked for {n_boot} resamples of {n_items} items; both must be at least 1.")


def _draws(
    n_items: int, n_boot: int, seed: int, kind: type[np.integer[Any]] = np.int64
) -> Int[np.ndarray, "boot item"]:
    random, found = np.random.default_rng(seed), np.empty((n_boot, n_items), dtype=kind)
    for row in found:  # one by one: the draws themselves would take several times the room of the counts
        row[:] = np.bincount(random.integers(0, n_items, size=n_items), minlength=n_items)
    return found


def _expanded(tail: float, n_items: int) -> float:
    from scipy.special import ndtr, stdtrit

    if n_items < 2:
        return 0.0
    return float(ndtr(np.sqrt(n_items / (n_items - 1)) * stdtrit(n_items - 1, tail)))


def _quantiles(samples: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(samples, dtype=float)
    if not np.isnan(values).any():
        found = np.quantile(values, [low, high], axis=0)
        return found[0], found[1]
    columns = values.reshape(len(values), -1).T
    kept = [column[~np.isnan(column)] for column in columns]
    pairs = np.array([np.quantile(c, [low, high]) if len(c) else [np.nan, np.nan] for c in kept])
    return pairs[:, 0].reshape(values.shape[1:]), pairs[:, 1].reshape(values.shape[1:])


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise BadInput(
            f"A confidence level of {level} makes no interval; give a number between 0 and 1, like 0.95."
        )
    return level
