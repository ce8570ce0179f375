"""AD-HH: known hallucination heads lose the text behind the picture when they look at little else."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import Anatomy, Attention
from vlmtools.families._prompt import spread
from vlmtools.families._rows import Rows
from vlmtools.patches._head_gain import HeadGain
from vlmtools.patches._row_edit import RowEdit, image_in_text
from vlmtools.patches.base import Handle, Live, Patch

Heads = Mapping[int, tuple[int, ...]]
"""Layer → heads."""


def ignore_text(
    weights: Float[Tensor, "batch head row key"],
    text: Bool[Tensor, "#batch #head #row key"],
    heads: Bool[Tensor, "head"],
    threshold: float,
) -> Float[Tensor, "batch head row key"]:
    """Set text weights to 0 in those heads that give the text too much; the rest is not scaled up.

    Args:
        weights: Attention after the softmax.
        text: Which keys are text behind the picture.
        heads: Which heads may be changed.
        threshold: Share of a head's attention from which on it is changed; above 1 nothing is.
    """
    too_much = (weights * text).sum(-1, keepdim=True) >= threshold
    return weights.masked_fill(text & too_much & heads[:, None, None], 0.0)


@dataclass(frozen=True)
class ADHH(Patch):
    """Adaptive deactivation of hallucination heads.

    In the newest row, a listed head that gives the text behind the picture (question and answer so far) at least
    `threshold` of its attention stops reading it. The heads are known for three checkpoints; for others they must be
    found by ablating heads one by one, and given.

    Reference: "Understanding and Mitigating Hallucinations in Large Vision-Language Models via Modular Attribution and
    Intervention", ICLR 2025; the rule as in the released code.

    Args:
        threshold: Share of attention on text, in [0, 1]; infinity is neutral, the released command uses .4.
        heads: Layer → heads. None takes the released lists for decoders shaped like LLaVA-1.5 7B and 13B and
            LLaVA-1.6 34B, and fits no other.
        how: `adaptive`; or `always`, which silences the heads altogether whatever they look at, as the released code
            does on newer models.
    """

    threshold: float = 0.4
    heads: Heads | None = None
    how: Literal["adaptive", "always"] = "adaptive"

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Edit the weights of the layers with listed heads, or silence the heads."""
        heads = self.heads if self.heads is not None else published(live)
        listed = _listed(live.anatomy, heads)
        live.status.heads.update({one.layer: _mask(one, heads)[None] for one in listed})
        if self.how == "always":
            live.status.tokens = "every prompt position and every new token"
            yield from self._silence(live, listed, heads)
            return
        image_in_text(live)
        live.status.tokens = "text behind the picture, seen from the last prompt position and every new token"
        for one in listed:
            edit = _Deactivation(self.threshold, _mask(one, heads))
            yield RowEdit("answer", weights=edit.weights, neutral=self.threshold > 1).install(live, [one])

    def _silence(self, live: Live, listed: tuple[Attention, ...], heads: Heads) -> Iterator[Handle]:
        for one in listed:
            gain = HeadGain(one, live.session)
            gain.set(torch.where(_mask(one, heads)[None], 0.0, 1.0))
            live.status.modules.append(one.name)
            yield gain.install()

    @classmethod
    def neutral(cls) -> Self:
        """No head can give the text that much."""
        return cls(threshold=math.inf, heads={})

    @classmethod
    def tiny(cls) -> Self:
        """Two heads of the first layer."""
        return cls(threshold=0.05, heads={0: (0, 1)})


@dataclass(frozen=True, slots=True)
class _Deactivation:
    threshold: float
    heads: Tensor

    def weights(self, rows: Rows, weights: Tensor) -> Tensor:
        text = text_keys(rows, weights.shape[0], weights.shape[-1], weights.device)
        return ignore_text(weights, text, self.heads.to(weights.device), self.threshold)


def text_keys(rows: Rows, n_rows: int, n_keys: int, device: torch.device) -> Bool[Tensor, "row 1 1 key"]:
    """Keys behind the last piece of the picture, generated ones included; none for prompts without picture.

    Args:
        rows: What is edited.
        n_rows: Rows of the batch.
        n_keys: Keys the attention sees.
        device: Where to put the answer.
    """
    prompt, session = rows.session.prompt, rows.session
    place = torch.arange(prompt.length, device=prompt.image.device)
    up_to = session.keys(place[None] < prompt.after_image[:, None], n_rows, n_keys, device)
    shows = spread(prompt.image.any(-1), n_rows).to(device)
    return (~up_to & shows[:, None])[:, None, None]


def _listed(parts: Anatomy, heads: Heads) -> tuple[Attention, ...]:
    by_layer = {one.layer: one for one in parts.attention}
    for layer, some in heads.items():
        if layer not in by_layer:
            raise BadInput(f"There is no attention in layer {layer}; it is in {sorted(by_layer)}.")
        n_heads = by_layer[layer].n_heads
        if not all(0 <= head < n_heads for head in some):
            raise BadInput(f"Layer {layer} has heads 0 to {n_heads - 1}, not all of {sorted(some)}.")
    return tuple(by_layer[layer] for layer in sorted(heads))


def _mask(attention: Attention, heads: Heads) -> Tensor:
    chosen = torch.zeros(attention.n_heads, dtype=torch.bool)
    chosen[list(heads[attention.layer])] = True
    return chosen


def published(live: Live) -> Heads:
    """The released heads for a decoder of this shape.

    Args:
        live: The model.

    Raises:
        CannotAttach: None were released for it.
    """
    parts = live.anatomy
    shape = (str(parts.model.config.model_type), len(parts.layers), parts.n_heads)
    pairs = _PUBLISHED.get(shape)
    if pairs is None:
        raise CannotAttach(
            f"No hallucination heads are known for {shape[0]} with {shape[1]} layers of {shape[2]} heads, only for "
            f"{', '.join(f'{kind} {n}×{h}' for kind, n, h in _PUBLISHED)}. Give ADHH(heads={{layer: (head, …)}})."
        )
    live.status.note(
        "The released heads belong to one checkpoint; on a model trained otherwise they mean nothing."
    )
    return {layer: tuple(h for n, h in pairs if n == layer) for layer in sorted({n for n, _ in pairs})}


_PUBLISHED: Mapping[tuple[str, int, int], tuple[tuple[int, int], ...]] = {
    ("llava", 32, 32): (
        (16, 29), (26, 9), (13, 31), (15, 10), (20, 12), (30, 9), (19, 18), (17, 0), (18, 9), (26, 28), (19, 27),
        (18, 26), (15, 25), (14, 16), (31, 26), (15, 24), (31, 3), (22, 20), (27, 29), (17, 28),
    ),
    ("llava", 40, 40): (
        (0, 8), (29, 27), (23, 18), (20, 11), (36, 26), (19, 37), (22, 16), (22, 34), (21, 31), (20, 34), (37, 11),
        (17, 25), (35, 10), (17, 5), (15, 26), (0, 22), (19, 5), (19, 0), (14, 1), (23, 20), (21, 6), (30, 24),
        (26, 27), (21, 32), (15, 28), (15, 31), (19, 30), (20, 8), (19, 14), (14, 9), (39, 26), (25, 1), (18, 32),
        (17, 27), (39, 32),
    ),
    ("llava_next", 60, 56): (
        (45, 34), (43, 4), (43, 48), (44, 29), (35, 47), (40, 27), (54, 34), (37, 48), (43, 2), (41, 34),
    ),
}  # fmt: skip
"""(model type, layers, heads) → (layer, head); the released attribution results, best first."""
