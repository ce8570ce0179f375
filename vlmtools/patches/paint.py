"""PAINT: look more at chosen image tokens: those the vision tower attends to early, and its late outliers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._prompt import Prompt
from vlmtools.families._refuse import refuse_encoded
from vlmtools.families._rows import Rows, Which
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches._stream import TextContrast
from vlmtools.patches.base import Handle, Live, Patch
from vlmtools.patches.pai import boost

Spatial = Literal["none", "received", "released"]


@dataclass(frozen=True)
class PAINT(Patch):
    """Raise the attention of the newest row to two kinds of image tokens, in every head of layers 2 and up.

    The default is what the released code does, where the boost is the same for all heads. Two things the paper
    describes and no released code defines are options in our own reading: `spatial="received"` and `heads="visual"`.
    In the paper's own published answers .7 makes about half of them run in circles, and .5 and less change nothing.

    Reference: arXiv:2501.12206, section 3.

    Args:
        strength: Share of its size by which the score of a local or spatial token is raised; 0 is neutral.
        summary_strength: The same for summary tokens; 0 is neutral. The headline of the paper uses .4.
        local_ratio: Share of the patches that are local tokens, in [0, 1]: the largest by first-layer attention.
        spatial: Which tokens count as spatial: `none`; `received`, those the other patches attend to most; `released`,
            row sums of a softmax as in the code, which are all 1, so that rounding decides.
        spatial_ratio: Share of the patches that are spatial tokens, in [0, 1].
        heads: `all`, or `visual`: heads that look at the picture more than the median head of their layer.
        contrast: Factor of the contrast with a picture-less stream; 1 is neutral. Published answers used 1.1.
        boost_first: Raise the last prompt row, which decides the first new token, too. The released code does not when
            its contrast is on.
    """

    strength: float = 0.7
    summary_strength: float = 0.3
    local_ratio: float = 0.25
    spatial: Spatial = "none"
    spatial_ratio: float = 0.25
    heads: Literal["all", "visual"] = "all"
    contrast: float = 1.0
    boost_first: bool = True

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Read two layers of the vision tower, edit the decoder's rows, add the contrast when asked for."""
        image_in_text(live)
        refuse_other_tokens(live)
        neutral = self.strength == self.summary_strength == 0
        found = _Selection(self, live)
        live.status.tokens = (
            f"{self.local_ratio:.0%} of the image tokens, and outliers of the last but one tower layer"
        )
        early, late = live.anatomy.vision[0], live.anatomy.vision[-2]
        rows: Which = "first" if _has_class_token(live) and self.spatial == "none" else "all"
        yield RowEdit(rows, read=found.see, neutral=neutral, needs_image=False).install(live, [early, late])
        yield live.session.on_prompt(found.begin)
        chosen = [one for one in live.anatomy.attention if one.layer >= 2]
        which: Which = "answer" if self.boost_first else "new"
        yield RowEdit(which, scores=found.edit, neutral=neutral).install(live, chosen)
        if self.contrast != 1:
            yield TextContrast(self.contrast, 0.1).install(live)

    @classmethod
    def neutral(cls) -> Self:
        """No boost, no contrast."""
        return cls(strength=0.0, summary_strength=0.0)


@dataclass(slots=True)
class _Selection:
    """The tokens chosen for the current prompts."""

    patch: PAINT
    live: Live
    seen: dict[int, Tensor] = field(default_factory=dict)
    chosen: tuple[Tensor, Tensor] | None = None

    def begin(self, _prompt: Prompt) -> None:
        self.seen.clear()
        self.chosen = None

    def see(self, rows: Rows, weights: Tensor) -> None:
        """Keep what the tower attends to; a second stream's picture is not ours."""
        if not self.live.session.state.side:
            self.seen[rows.attention.layer] = weights.detach()

    def edit(self, rows: Rows, scores: Tensor) -> Tensor:
        session, batch, n_keys = rows.session, scores.shape[0], scores.shape[-1]
        if self.chosen is None:
            self.chosen = self._choose(session.prompt)
        top, bottom = (session.keys(one, batch, n_keys, scores.device)[:, None, None] for one in self.chosen)
        if self.patch.heads == "visual":
            heads = visual_heads(scores, rows.image, rows.allowed)[..., None]
            top, bottom = top & heads, bottom & heads
        return boost(boost(scores, top, self.patch.strength), bottom, self.patch.summary_strength)

    def _choose(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        refuse_encoded(prompt.inputs, "paint")
        vision = self.live.anatomy.vision
        early, late = self.seen[vision[0].layer], self.seen[vision[-2].layer]
        with_class = _has_class_token(self.live)
        local, summary = patch_scores(early, with_class), patch_scores(late, with_class)
        if local.numel() != int(prompt.image.sum()):
            raise BadInput(
                f"PAINT maps one patch of the vision tower to one image token; the tower gave {local.numel()} patches "
                f"and the prompt has {int(prompt.image.sum())} image tokens. Use pai for this model."
            )
        spatial = self._spatial(early, with_class)
        top, bottom = select_tokens(local, summary, spatial, self.patch.local_ratio, self.patch.spatial_ratio)
        return _placed(top, prompt), _placed(bottom, prompt)

    def _spatial(self, early: Tensor, with_class: bool) -> Tensor | None:
        if self.patch.spatial == "none":
            return None
        if self.patch.spatial == "received":
            return received(early, with_class)
        self.live.status.note("Released spatial scores are all 1: rounding decides which tokens are raised.")
        return row_sums(early)[:, : early.shape[-1] - int(with_class)]


def patch_scores(
    weights: Float[Tensor, "image head row key"], class_token: bool
) -> Float[Tensor, "image patch"]:
    """How much a tower layer attends to each patch: from the class token, or from all patches where there is none.

    Args:
        weights: Of the layer; only the first row is needed where it has a class token.
        class_token: Whether the first row and key are a class token.
    """
    return weights[:, :, 0, 1:].sum(1) if class_token else received(weights, class_token)


def received(weights: Float[Tensor, "image head row key"], class_token: bool) -> Float[Tensor, "image patch"]:
    """How much the patches attend to each patch, averaged over heads and patches.

    Args:
        weights: Of the layer, all rows.
        class_token: Whether the first row and key are a class token; it is left out.
    """
    first = int(class_token)
    return weights[:, :, first:, first:].mean((1, 2))


def row_sums(weights: Float[Tensor, "image head row key"]) -> Float[Tensor, "image row"]:
    """The released spatial score: the sum of each row of the head-averaged weights, which is 1 by construction.

    Args:
        weights: Of the first tower layer, all rows.
    """
    return weights.mean(1).sum(-1)


def n_outliers(scores: Float[Tensor, "patch"]) -> int:
    """How many scores lie above the third quartile by more than 1.5 interquartile ranges.

    Args:
        scores: Of the patches of one picture.
    """
    low, high = torch.quantile(scores.float(), torch.tensor([0.25, 0.75], device=scores.device))
    count = int((scores > high + 1.5 * (high - low)).sum())
    return int(len(scores) * (count / len(scores)))  # the released code goes through the share, and so rounds


def select_tokens(
    local: Float[Tensor, "image patch"],
    summary: Float[Tensor, "image patch"],
    spatial: Float[Tensor, "image patch"] | None,
    local_ratio: float,
    spatial_ratio: float,
) -> tuple[Bool[Tensor, "image patch"], Bool[Tensor, "image patch"]]:
    """Tokens to raise by the full strength, and by the summary strength; the two are disjoint.

    Args:
        local: Early attention.
        summary: Late attention.
        spatial: Spatial score; None for no spatial tokens.
        local_ratio: Share of the patches that are local, in [0, 1].
        spatial_ratio: Share that are spatial, in [0, 1].
    """
    n_patches = local.shape[1]
    bottom = torch.stack([_largest(row, n_outliers(row)) for row in summary])
    top = torch.stack([_largest(row, int(n_patches * local_ratio)) for row in local])
    if spatial is not None:
        top = top | torch.stack([_largest(row, int(n_patches * spatial_ratio)) for row in spatial])
    return top & ~bottom, bottom


def visual_heads(
    scores: Float[Tensor, "batch head row key"],
    image: Bool[Tensor, "#batch 1 1 key"],
    allowed: Bool[Tensor, "#batch #head row key"],
) -> Bool[Tensor, "batch head row"]:
    """Heads that give the picture more of their attention than the median head does, row by row.

    Args:
        scores: Before mask and softmax.
        image: Which keys are pieces of the picture.
        allowed: Which keys a row may see.
    """
    mass = (scores.masked_fill(~allowed, float("-inf")).softmax(-1) * image).sum(-1).nan_to_num()
    return mass > mass.median(1, keepdim=True).values


def refuse_other_tokens(live: Live) -> None:
    """Refuse models whose image tokens are not the vision tower's patches one by one.

    Args:
        live: The model.

    Raises:
        CannotAttach: It is such a model.
    """
    parts = live.anatomy
    if parts.family is None or not parts.family.patch_tokens or len(parts.vision) < 2:
        kind = parts.model.config.model_type
        raise CannotAttach(
            f"{live.status.patch.name} needs one image token per patch of the vision tower, and {kind} merges, cuts or "
            "resamples patches. Use pai, which raises all image tokens."
        )


def _has_class_token(live: Live) -> bool:
    return live.anatomy.family is not None and live.anatomy.family.class_token


def _largest(scores: Tensor, n: int) -> Tensor:
    return torch.zeros_like(scores, dtype=torch.bool).scatter(0, scores.topk(n).indices, True)


def _placed(chosen: Tensor, prompt: Prompt) -> Tensor:
    """Patches of all pictures, in order, at their places in the prompts."""
    placed = torch.zeros_like(prompt.image)
    placed[prompt.image] = chosen.flatten().to(placed.device)
    return placed
