"""DeCo: let the earlier layer that is surest of a likely token have a say."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches._contrast import EarlyContrast, EarlyLayers
from vlmtools.patches._depth import Layers, layers_passed
from vlmtools.patches.base import Handle, Live, Patch


def candidates(scores: Float[Tensor, "row vocab"], top_p: float, top_k: int) -> Bool[Tensor, "row vocab"]:
    """The likeliest tokens until they add up to `top_p`, and at most `top_k`.

    Args:
        scores: Of the last layer.
        top_p: Probability they add up to, in (0, 1].
        top_k: How many at most, at least 1.
    """
    best = scores.softmax(-1).topk(min(top_k, scores.shape[-1]), dim=-1)
    before = best.values.cumsum(-1) - best.values
    # strictly: a token is kept while what lies before it has not reached top_p
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best.indices, before < top_p)


def correct(
    scores: Float[Tensor, "row vocab"],
    early: Float[Tensor, "layer row vocab"],
    strength: float,
    top_p: float,
    top_k: int,
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities after the surest earlier layer was added, weighted by how sure it is.

    Reference: arXiv:2410.11779, section 4.

    Args:
        scores: Of the last layer.
        early: Of the earlier layers.
        strength: 0 keeps the order of the candidates.
        top_p: Probability of the candidates.
        top_k: How many candidates at most.
    """
    kept = candidates(scores, top_p, top_k)
    surest = early.softmax(-1).masked_fill(~kept, 0.0).amax(-1)  # (layer, row)
    weight, layer = surest.max(0)
    anchor = early[layer, torch.arange(len(layer), device=layer.device)]
    added = scores + strength * weight[:, None] * anchor
    return added.masked_fill(~kept, float("-inf")).log_softmax(-1)


@dataclass(frozen=True)
class DeCo(Patch):
    """Dynamic correction decoding: `z + a · p · z_early` on the likeliest tokens of the last layer.

    `z_early` is what the output head says after the earlier layer that gives one of the candidates the largest
    probability p. It acts in `generate`, with greedy search, sampling and beams; the cost is one product with the
    output head per layer and token.

    Reference: arXiv:2410.11779, section 4; candidates as in the released code.

    Args:
        strength: a, from 0 up; 0 is neutral (no candidates are cut either). The released usage has .6, its table .5.
        top_p: Probability that the candidates add up to, in (0, 1].
        top_k: Candidates at most, from 1 up.
        layers: How many layers have been passed, 0 the embeddings; None takes 20 to 28 of 32, the released default, and
            the same share of other depths.
    """

    strength: float = 0.6
    top_p: float = 0.9
    top_k: int = 20
    layers: Layers = None

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Watch the layers, and change the scores of every `generate`."""
        if self.top_k < 1 or not 0 < self.top_p <= 1:
            raise BadInput(f"top_p={self.top_p}, top_k={self.top_k} leave no candidate. Use 0.9 and 20.")
        live.status.note("Acts on the scores in generate; single passes are left alone.")
        if self.strength == 0:
            return
        early = EarlyLayers(live, layers_passed(live, self.layers, 20, 28))
        yield early.install()
        yield live.session.add_processor(lambda _prompt: EarlyContrast(early, self._combine))

    def _combine(self, scores: Tensor, early: Tensor) -> Tensor:
        return correct(scores, early, self.strength, self.top_p, self.top_k)

    @classmethod
    def neutral(cls) -> Self:
        """Nothing is added."""
        return cls(strength=0.0)
