"""Views with everything a pruner may ask for, drawn by chance; and what must hold of any selection."""

import torch
from hypothesis import strategies as st

from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower

CLIP = Tower("clip_vision_model", 24, 22, tuple(range(24)), class_token=True)
SIGLIP = Tower("siglip_vision_model", 27, 26, tuple(range(27)))
QWEN = Tower("qwen2_5_vl", 32, 31, (7, 15, 23, 31))
TOWERS = (CLIP, SIGLIP, QWEN)


def view(needs: Needs, grid: tuple[int, int], seed: int = 0, dim: int = 12, n_words: int = 5) -> Seen:
    """A view that shows exactly what `needs` asks for."""
    chance = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]

    def row() -> torch.Tensor:
        return torch.randn(n, generator=chance).mul(2).softmax(0)

    return Seen(
        features=torch.randn(n, dim, generator=chance),
        grid=grid,
        received={layer: row() for layer in needs.received},
        class_attention={layer: row() for layer in needs.class_attention},
        keys={layer: torch.randn(n, 2, 3, generator=chance) for layer in needs.keys},
        patches=torch.randn(n, dim // 2, generator=chance) if needs.patches else None,
        text=torch.randn(n_words, dim, generator=chance) if needs.text else None,
    )


Problem = tuple[tuple[int, int], int, int]
"""Grid, seed, tokens to keep."""

grids = st.tuples(st.integers(1, 7), st.integers(1, 7)).filter(lambda grid: grid[0] * grid[1] > 1)
seeds = st.integers(0, 2**31)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """(grid, seed, n_keep) with at least one token kept and one dropped."""
    grid = draw(grids)
    return grid, draw(seeds), draw(st.integers(1, grid[0] * grid[1] - 1))


def chosen(pruner: TokenPruner, tower: Tower, problem: Problem) -> Selection:
    """What the pruner selects, after checking what must hold of any selection."""
    grid, seed, n_keep = problem
    seen = view(pruner.needs(tower), grid, seed)
    selection = pruner.select(seen, n_keep)
    kept = selection.kept.tolist()
    assert selection.n_tokens == n_keep
    assert kept == sorted(set(kept))
    assert all(0 <= token < seen.n_tokens for token in kept)
    if selection.merged is not None:
        places = selection.merged_at.tolist()
        assert len(places) == len(selection.merged) == len(set(places)) and not set(places) & set(kept)
        assert all(0 <= place < seen.n_tokens for place in places)
        assert selection.merged.isfinite().all() and selection.merged.dtype == seen.features.dtype
    named = [token for tokens in selection.kinds.values() for token in tokens.tolist()]
    extra = [] if selection.merged is None else selection.merged_at.tolist()
    assert set(kept) <= set(named) <= {*kept, *extra}
    again = pruner.select(seen, n_keep)
    assert again.kept.tolist() == kept
    return selection
