"""HiPrune: anchors from the middle of the vision tower, their neighbours, then the rest from its end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._salience import normalised, whole_layer
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower

Fill = Literal["register", "diverse"]
"""How the budget is filled behind anchors and buffers."""

Stages = tuple[Int64[Tensor, " anchor"], Int64[Tensor, " buffer"], Int64[Tensor, " fill"]]
"""Anchors, buffers and the rest, each in the order of choice."""


def n_anchors(n_keep: int, alpha: float) -> int:
    """How many anchors a budget gives: a share of it, over the five tokens of a cross, ties to even.

    Reference: arXiv:2508.00553; rounded as in the released code.

    Args:
        n_keep: The budget in tokens, at least 0.
        alpha: Share of the budget meant for anchors and their neighbours, from 0 (none) up; the paper uses 0.1.
    """
    return round(n_keep * alpha / 5)


def best(scores: Float[Tensor, " image_token"], n: int) -> Int64[Tensor, " best"]:
    """The `n` highest scores, best first; of equal scores the lower index.

    Args:
        scores: One per token.
        n: How many, from 0 to all.
    """
    return scores.argsort(descending=True, stable=True)[:n]


def cross(anchors: Int64[Tensor, " anchor"], n_tokens: int, width: int) -> Int64[Tensor, " buffer"]:
    """Left, right, upper and lower neighbours on the grid, anchors and repetitions left out.

    Reference: arXiv:2508.00553. Nothing wraps from one row into the next.

    Args:
        anchors: Raster indices.
        n_tokens: Tokens of the picture; the last row may be incomplete.
        width: Tokens per row.
    """
    column = anchors % width
    near = [
        anchors[column > 0] - 1,
        anchors[column < width - 1] + 1,
        anchors - width,
        anchors + width,
    ]
    found = torch.cat(near)
    inside = found[(found >= 0) & (found < n_tokens)]
    return _marked(n_tokens, inside).index_fill(0, anchors, False).nonzero()[:, 0]


def fill_diverse(
    scores: Float[Tensor, " image_token"],
    features: Float[Tensor, "image_token dim"],
    chosen: Int64[Tensor, " chosen"],
    n: int,
    weight: float = 1.0,
) -> Int64[Tensor, " fill"]:
    """Greedily add the token with the highest attention minus similarity to what is kept already.

    Attention is stretched to 0 … 1 over the picture, similarity is the largest cosine to a kept token. Ours: registers
    by attention alone tend to repeat each other when few tokens are kept.

    Args:
        scores: Attention each token receives.
        features: The tokens.
        chosen: Kept already.
        n: How many to add.
        weight: On similarity, from 0 up; 0 is neutral and gives the tokens with the highest scores.
    """
    unit = normalised(features)
    span = (scores.max() - scores.min()).clamp_min(torch.finfo(torch.float32).tiny)
    value = (scores - scores.min()) / span
    near = unit @ unit[chosen].T
    closest = near.max(-1).values if len(chosen) else torch.zeros_like(value)
    free = torch.ones_like(value, dtype=torch.bool).index_fill(0, chosen, False)
    added: list[Tensor] = []
    for _ in range(n):
        new = torch.where(free, value - weight * closest, -torch.inf).argmax()
        free[new] = False
        closest = torch.maximum(closest, unit @ unit[new]) if added or len(chosen) else unit @ unit[new]
        added.append(new)
    return torch.stack(added) if added else chosen[:0]


def stages(
    object_scores: Float[Tensor, " image_token"],
    deep_scores: Float[Tensor, " image_token"],
    n_keep: int,
    width: int,
    alpha: float = 0.1,
    features: Float[Tensor, "image_token dim"] | None = None,
    weight: float = 1.0,
) -> Stages:
    """The three stages as the paper has them: exactly `n_keep` different tokens, for scores of any scale.

    Reference: arXiv:2508.00553.

    Args:
        object_scores: Attention each token receives in the middle layer.
        deep_scores: The same in the deep layer.
        n_keep: Budget, from 0 to the number of tokens. Buffers beyond it go, those with the lowest object score first.
        width: Tokens per row of the grid.
        alpha: Share of anchors and buffers, from 0 (only registers) up.
        features: With them the last stage is `fill_diverse`; None fills by deep score.
        weight: On similarity, for `fill_diverse`.
    """
    anchors = best(object_scores, min(n_anchors(n_keep, alpha), n_keep))
    buffers = cross(anchors, len(object_scores), width)
    buffers = buffers[best(object_scores[buffers], n_keep - len(anchors))]
    chosen = torch.cat([anchors, buffers])
    if features is not None:
        return anchors, buffers, fill_diverse(deep_scores, features, chosen, n_keep - len(chosen), weight)
    open_scores = deep_scores.index_fill(0, chosen, -torch.inf)
    return anchors, buffers, best(open_scores, n_keep - len(chosen))


def released_stages(
    object_scores: Float[Tensor, " image_token"],
    deep_scores: Float[Tensor, " image_token"],
    n_keep: int,
    width: int,
    alpha: float = 0.1,
) -> Stages:
    """The three stages as the released program computes them, its defects included.

    Neighbours are shifts of the flat index, clamped to the first and last token, so they wrap around rows and a border
    anchor keeps a corner. Chosen tokens are excluded by subtracting 1 from their deep score: with scores above 1, as
    Qwen's sums are, some are drawn again, and fewer than `n_keep` different tokens remain.

    Reference: github.com/Danielement321/HiPrune at 6e83a12. Its top-k leaves the order of ties open; here the lower
    index wins.

    Args:
        object_scores: Attention each token receives in the object layer.
        deep_scores: The same in the deep layer.
        n_keep: Budget.
        width: Tokens per row of the grid.
        alpha: Share of anchors and buffers.

    Raises:
        BadInput: More anchors and neighbours than the budget holds; the released program stops there too.
    """
    anchors = best(object_scores, n_anchors(n_keep, alpha))
    shifts = torch.tensor([0, -1, 1, -width, width], device=anchors.device)
    near = (anchors[:, None] + shifts).clamp(0, len(object_scores) - 1).flatten()
    union = _marked(len(object_scores), near)
    chosen = union.nonzero()[:, 0]
    if len(chosen) > n_keep:
        raise BadInput(
            f"{len(chosen)} anchors and neighbours do not fit into {n_keep} tokens, and the released HiPrune stops "
            "there. Lower alpha, keep more tokens, or use compat=False."
        )
    buffers = union.index_fill(0, anchors, False).nonzero()[:, 0]
    return anchors, buffers, best(deep_scores - union.to(deep_scores.dtype), n_keep - len(chosen))


def _marked(n_tokens: int, tokens: Tensor) -> Tensor:
    return torch.zeros(n_tokens, dtype=torch.bool, device=tokens.device).index_fill(0, tokens, True)


@dataclass(frozen=True)
class HiPrune(TokenPruner):
    """Anchors and their neighbours by the attention of a middle layer, the rest by that of the deepest one in use.

    Without settings: the paper's rule with an exact budget. `fill="diverse"` is ours, for small budgets: the rest by
    attention minus similarity to what is kept.

    Reference: arXiv:2508.00553.

    Args:
        alpha: Share of anchors and buffers, from 0 (attention of the deep layer alone) up; the paper uses 0.1.
        compat: As the released program computes it, its defects included: see `released_stages`. Towers with a class
            token follow the LLaVA program, others the Qwen program, whose scores have mean 1.
        fill: `register` as in the paper, or `diverse`.
        weight: On similarity, for `diverse`, from 0 up; 0 is `register`.
        object_layer: Middle layer, from 0, negative from the end; None is the 9th of 24 in CLIP towers and the 16th
            of 32 in others, in proportion, moved to the nearest layer that sees whole pictures.
        deep_layer: None is the layer whose output goes to the connector. The paper says the last one, its LLaVA code
            takes this.
    """

    alpha: float = 0.1
    compat: bool = False
    fill: Fill = "register"
    weight: float = 1.0
    object_layer: int | None = None
    deep_layer: int | None = None

    @classmethod
    def calibrated(cls, target: Any, batches: Iterable[Mapping[str, Any]], **settings: Any) -> Self:
        """For a tower whose object layer nobody knows: measured on pictures, without labels.

        Args:
            target: A `VLM`, or any loaded Hugging Face model that generates text from pictures.
            batches: Inputs as the processor gives them, one picture each; some dozens are enough.
            settings: The other fields.

        Raises:
            BadInput: No pictures, or fewer than three layers that see whole pictures.
        """
        from vlmtools.pruning._calibrate import calibrate

        return cls(object_layer=calibrate(target, batches).object_layer, **settings)

    def needs(self, tower: Tower) -> Needs:
        """Attention received in two layers."""
        if self.alpha < 0 or (self.compat and self.fill != "register"):
            raise BadInput(
                f"{self.name}: alpha={self.alpha}, compat={self.compat}, fill={self.fill!r} do not go together. "
                "alpha is 0 or more, and the released program (compat) fills with registers only."
            )
        share = 8 / 23 if "clip" in tower.name else 15 / 31
        deep = whole_layer(tower, self.deep_layer, None, self.name)
        middle = whole_layer(tower, self.object_layer, share, self.name)
        if self.object_layer is None:
            middle = min(middle, deep % tower.n_layers)
        return Needs(received=(middle, deep))

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Anchors, buffers, and the rest."""
        middle, deep = self._scores(seen)
        width = seen.grid[1]
        if self.compat:
            anchors, buffers, rest = released_stages(middle, deep, n_keep, width, self.alpha)
        else:
            features = seen.features if self.fill == "diverse" else None
            anchors, buffers, rest = stages(middle, deep, n_keep, width, self.alpha, features, self.weight)
        found = {"anchor": anchors, "buffer": buffers, self.fill: rest}
        kept = _marked(seen.n_tokens, torch.cat(list(found.values()))).nonzero()[:, 0]
        return Selection(kept, {kind: tokens.sort().values for kind, tokens in found.items()})

    def _scores(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Of the object and of the deep layer; sums instead of means where the Qwen program has them."""
        layers = sorted(seen.received)
        middle = layers[0] if self.object_layer is None else self.object_layer
        if self.object_layer is None and self.deep_layer is not None:
            middle = next((layer for layer in layers if layer != self.deep_layer), self.deep_layer)
        deep = next((layer for layer in layers if layer != middle), middle)
        deep = deep if self.deep_layer is None else self.deep_layer
        scores = seen.received[middle], seen.received[deep]
        if self.compat and not seen.tower.class_token:
            return scores[0] / scores[0].mean(), scores[1] / scores[1].mean()
        return scores
