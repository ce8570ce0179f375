"""Where kept tokens say they are, on every family: where they were, or one after the other."""

from typing import Any

import pytest
import torch
from matrix import tiny
from pruning_cases import PRUNABLE, ROPE, First, prompts
from torch import Tensor

N_NEW = 3


def positions_read(model: Any, batch: dict[str, Tensor], pruner: First | None) -> list[Tensor]:
    """Positions of the prompt's pass and of every later one, as the decoder gets them."""
    read: list[Tensor] = []
    handle = model.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["position_ids"].clone()), with_kwargs=True
    )
    try:
        if pruner is None:
            model.generate(**batch, do_sample=False, max_new_tokens=N_NEW)
        else:
            with pruner.attach(model):
                model.generate(**batch, do_sample=False, max_new_tokens=N_NEW)
    finally:
        handle.remove()
    return read


def stays(model: Any, batch: dict[str, Tensor], pruner: First) -> Tensor:
    """Columns of the one prompt that are kept."""
    with pruner.attach(model) as on, torch.no_grad():
        model(**batch)
        views = on.report().views
    ids = batch["input_ids"][0]
    image, kept, start = (ids == 127).nonzero()[:, 0].tolist(), set(range(len(ids))), 0
    for view in views:
        n = view.grid[0] * view.grid[1]
        chosen = set(view.selection.kept.tolist())
        kept -= {image[start + i] for i in range(n) if i not in chosen}
        start += n
    return torch.tensor(sorted(kept))


PLAIN = [kind for kind in PRUNABLE if kind not in ROPE and kind not in ("llava_next", "llava_onevision")]
"""One row of positions, and no line ends between the tokens of a view."""


@pytest.mark.parametrize("kind", PLAIN)
def test_original_positions_have_gaps_where_tokens_went_and_answers_count_on_from_the_whole_prompt(
    kind: str,
) -> None:
    model, batch = tiny(kind), prompts(kind, (1,))
    pruner = First(keep=0.5, positions="original")
    whole, short = positions_read(model, batch, None), positions_read(model, batch, pruner)
    columns = stays(model, batch, pruner)
    assert len(columns) < whole[0].shape[-1]
    assert torch.equal(short[0], whole[0][..., columns])
    for before, after in zip(whole[1:], short[1:], strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("positions", ["auto", "renumber"])
def test_renumbered_positions_count_on_without_gap(kind: str, positions: Any) -> None:
    model, batch = tiny(kind), prompts(kind, (1,))
    whole = positions_read(model, batch, None)[0]
    short = positions_read(model, batch, First(keep=0.5, positions=positions))
    n = short[0].shape[-1]
    assert n < whole.shape[-1]
    assert torch.equal(short[0], whole[..., :n])
    for step, later in enumerate(short[1:]):
        assert later.flatten().tolist() == [int(whole.flatten()[0]) + n + step]
