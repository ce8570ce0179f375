"""Inputs for pruning tests: several pictures per prompt, of several sizes, on the tiny models of every family."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from matrix import family
from torch import Tensor

from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower

PRUNABLE = (
    "gemma3", "idefics3", "internvl", "llava", "llava_next", "llava_onevision", "mistral3", "paligemma",
    "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm",
)  # fmt: skip
ROPE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@dataclass(frozen=True)
class First(TokenPruner):
    """Keeps the first tokens and remembers what it saw; not in the registry."""

    wants: Needs = field(default_factory=Needs)
    merged: bool = False
    log: list[Seen] = field(default_factory=list)

    def needs(self, tower: Tower) -> Needs:
        return self.wants

    def select(self, seen: Seen, n_keep: int) -> Selection:
        self.log.append(seen)
        if not self.merged or n_keep < 2:
            return Selection(torch.arange(n_keep))
        rest = seen.features[n_keep - 1 :].mean(0, keepdim=True)
        return Selection(torch.arange(n_keep - 1), {}, rest, torch.tensor([seen.n_tokens - 1]))


def prompts(kind: str, shows: Sequence[int] = (1, 2), seed: int = 0) -> dict[str, Tensor]:
    """A left-padded batch whose prompts show different numbers of pictures."""
    one, config = family(kind), family(kind).tiny_config()
    rows, pictures = [], []
    for row, n in enumerate(shows):
        mine = [one.tiny_image(config, seed + 10 * row + i) for i in range(n)]
        text = [token for picture in mine for token in (*picture.tokens, 7 + row)]
        rows.append([1, 9, *text, 5, 6][: None if row % 2 else -1])
        pictures += mine
    return padded(kind, rows, _together(kind, shows, pictures))


def padded(kind: str, rows: Sequence[Sequence[int]], media: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows padded on the left, with everything that has one entry per token."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    batch = {"input_ids": ids, "attention_mask": real, **media}
    image = ids == family(kind).tiny_config().image_token_id
    for key in family(kind).token_inputs:
        batch[key] = torch.zeros_like(ids) if kind == "paligemma" else image.long()
    return batch


def _together(kind: str, shows: Sequence[int], pictures: Sequence[Any]) -> dict[str, Tensor]:
    media = {key: torch.cat([one.inputs[key] for one in pictures]) for key in pictures[0].inputs}
    if kind in ("idefics3", "smolvlm"):  # an axis for the pictures of a prompt, filled up with empty ones
        per_row = media["pixel_values"].split(list(shows))
        most = max(shows)
        media["pixel_values"] = torch.stack(
            [torch.cat([row[:, 0], row.new_zeros(most - len(row), *row.shape[2:])]) for row in per_row]
        )
    return media


def row_of(kind: str, shows: Sequence[int], row: int, seed: int = 0) -> dict[str, Tensor]:
    """One prompt of `prompts` alone, without padding."""
    batch = prompts(kind, shows, seed)
    ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
    one, config = family(kind), family(kind).tiny_config()
    pictures = [one.tiny_image(config, seed + 10 * row + i) for i in range(shows[row])]
    return padded(kind, [ids], _together(kind, (shows[row],), pictures))
