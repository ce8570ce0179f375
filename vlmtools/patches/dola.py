"""DoLa: prefer the tokens that became likelier between an earlier layer and the last."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.patches._contrast import EarlyContrast, EarlyLayers, plausible
from vlmtools.patches._depth import layers_passed
from vlmtools.patches.base import Handle, Live, Patch

Divergence = Literal["released", "jensen_shannon"]


def farthest_layer(
    scores: Float[Tensor, "row vocab"],
    early: Float[Tensor, "layer row vocab"],
    divergence: Divergence = "released",
) -> Int[Tensor, "row"]:
    """The earlier layer whose prediction differs most from the last layer's, row by row.

    Reference: arXiv:2309.03883, eq. 4.

    Args:
        scores: Of the last layer.
        early: Of the earlier layers.
        divergence: `jensen_shannon` as the paper writes, mean of KL(p‖m) and KL(q‖m); `released` turns both around.
    """
    # a token that the caller forbade would make every layer infinitely far
    early = early.masked_fill(scores.isneginf(), float("-inf"))
    log_p, log_q = scores.log_softmax(-1)[None], early.log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0))
    if divergence == "released":
        apart = _kl(log_m, log_p) + _kl(log_m, log_q)
    else:
        apart = _kl(log_p.expand_as(log_q), log_m) + _kl(log_q, log_m)
    return apart.argmax(0)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """What tokens of probability 0 in p add is 0."""
    return torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q)).sum(-1)


def layer_contrast(
    scores: Float[Tensor, "row vocab"], early: Float[Tensor, "row vocab"], strength: float, cutoff: float
) -> Float[Tensor, "row vocab"]:
    """Log-probabilities of the last layer minus the earlier one, among the likely tokens.

    Reference: arXiv:2309.03883, eq. 2 and 3.

    Args:
        scores: Of the last layer.
        early: Of the chosen earlier layer.
        strength: 1 is the paper's; 0 keeps the order of likely tokens.
        cutoff: Share of the largest probability below which a token is dropped, in (0, 1].
    """
    moved = scores.log_softmax(-1) - strength * early.log_softmax(-1)
    return (moved + plausible(scores, cutoff)).log_softmax(-1)


def bucket(which: Literal["low", "high"], n_layers: int, tied: bool) -> tuple[int, ...]:
    """Every second layer of the lower or the upper half, 20 layers at most, as Hugging Face chose them.

    Args:
        which: The half.
        n_layers: Layers of the decoder.
        tied: Whether input and output embeddings are one, so that the lowest layers only repeat the input.
    """
    half = n_layers // 2 if n_layers <= 40 else 20
    if which == "high":
        return tuple(range(n_layers // 2 if n_layers <= 40 else n_layers - 20, n_layers, 2))
    first = min(2, n_layers - 1) if tied else 0
    return tuple(range(first, half, 2)) or (first,)


@dataclass(frozen=True)
class DoLa(Patch):
    """Decoding by contrasting layers: last layer minus the earlier layer that differs most from it, per token.

    It acts in `generate`, with greedy search, sampling and beams; the cost is one product with the output head per
    candidate layer and token. Its authors add a repetition penalty of 1.2: `generate(repetition_penalty=1.2)`.

    Reference: arXiv:2309.03883, eq. 2 to 4.

    Args:
        strength: Of the contrast, from 0 up; 0 is neutral (nothing is cut either), 1 is the paper's.
        layers: Candidates: `low` (paper: for long answers) or `high` (for short facts) half, or how many layers have
            been passed, 0 the embeddings.
        cutoff: Tokens less likely than this share of the likeliest are dropped, in (0, 1]; the paper uses .1.
        divergence: How layers are compared: `released`, or `jensen_shannon` as the paper writes.
        normed: Read earlier layers through the last norm, as the last layer is read; the released code does not.
    """

    strength: float = 1.0
    layers: Literal["low", "high"] | tuple[int, ...] = "low"
    cutoff: float = 0.1
    divergence: Divergence = "released"
    normed: bool = False

    def hooks(self, live: Live) -> Iterator[Handle]:
        """Watch the layers, and change the scores of every `generate`."""
        if not 0 < self.cutoff <= 1:
            raise BadInput(f"cutoff={self.cutoff} is no share above 0 and up to 1; .1 is the paper's.")
        live.status.note("Acts on the scores in generate; single passes are left alone.")
        if self.strength == 0:
            return
        early = EarlyLayers(live, self._layers(live), self.normed)
        yield early.install()
        yield live.session.add_processor(lambda _prompt: EarlyContrast(early, self._combine))

    def _layers(self, live: Live) -> tuple[int, ...]:
        if not isinstance(self.layers, str):
            return layers_passed(live, tuple(self.layers), 0, 0)
        parts = live.anatomy
        # Asked of the configuration: weights that are offloaded are no longer the same object.
        config = parts.model.config
        tied = bool(
            getattr(config, "tie_word_embeddings", False)
            or getattr(config.get_text_config(), "tie_word_embeddings", False)
        )
        return bucket(self.layers, len(parts.layers), tied)

    def _combine(self, scores: Tensor, early: Tensor) -> Tensor:
        layer = farthest_layer(scores, early, self.divergence)
        chosen = early[layer, torch.arange(len(layer), device=layer.device)]
        return layer_contrast(scores, chosen, self.strength, self.cutoff)

    @classmethod
    def neutral(cls) -> Self:
        """No contrast."""
        return cls(strength=0.0)
