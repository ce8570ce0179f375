"""Who judges whom when not everybody judges everybody: models are dealt into small panels, anew for every item."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

Together = Callable[[str, str, str], bool]
"""(item, one model, another) → whether they are in one panel."""


def deal(item: str, models: Sequence[str], size: int, seed: int = 0) -> dict[str, int]:
    """Model → number of its panel for the item.

    Each panel is a crosscheck of its own: its members judge each other and nobody else. An answer is then judged by at
    most `size` - 1 others however many models there are, so votes grow with items x models instead of items x models².
    Panels change from item to item, so that over many items every model meets every other one.

    Args:
        item: The item's id, which decides the deal together with the names and the seed.
        models: Names; their order does not matter.
        size: Most members of a panel, at least 2; where the models do not divide evenly, panels have one member less,
            and three instead of two where one would be left alone. 0, or as many as there are models, puts all into
            one panel: the neutral value.
        seed: Another seed deals otherwise.
    """
    n_panels = n_panels_of(len(models), size)
    order = sorted(models, key=lambda name: _draw(seed, item, name))
    return {name: place % n_panels for place, name in enumerate(order)}


def together(models: Sequence[str], size: int, seed: int = 0) -> Together | None:
    """A function that says who is in one panel; None when everybody is.

    Args:
        models: Names.
        size: Most members of a panel; 0 is everybody.
        seed: Of the deal.
    """
    if n_panels_of(len(models), size) == 1:
        return None
    names = tuple(models)

    @lru_cache(maxsize=1)
    def dealt(item: str) -> dict[str, int]:
        return deal(item, names, size, seed)

    def same(item: str, one: str, other: str) -> bool:
        return dealt(item)[one] == dealt(item)[other]

    return same


def n_panels_of(n_models: int, size: int) -> int:
    """Panels that so many models are dealt into.

    Args:
        n_models: Models.
        size: Most members of a panel; 0 is everybody.
    """
    return max(1, min(-(-n_models // size), n_models // 2)) if size else 1


def n_pairs(n_models: int, size: int) -> int:
    """Pairs of a target and another model as its judge, per item.

    Args:
        n_models: Models.
        size: Most members of a panel; 0 is everybody.
    """
    n_panels = n_panels_of(n_models, size)
    small, n_larger = divmod(n_models, n_panels)
    return n_larger * (small + 1) * small + (n_panels - n_larger) * small * (small - 1)


def _draw(seed: int, item: str, name: str) -> bytes:
    parts = f"{seed}\0{item}\0{name}".encode(errors="surrogatepass")
    return hashlib.blake2b(parts, digest_size=8).digest()
