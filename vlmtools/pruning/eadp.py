"""EADP: cover the picture with few tokens, where the clear words of the prompt say it matters."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._salience import normalised
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower

FOCUS = 0.01 + 1e-6
"""Temperature of the weights by which clear words are averaged, as released: nearly all goes to the clearest."""


def clear_words(
    likeness: Float[Tensor, "image_token word"], share: float = 0.2, temperature: float = 100.0
) -> tuple[Int64[Tensor, " clear"], Float[Tensor, " clear"]]:
    """The words that point at few tokens, and their entropies: lowest first, of equal ones the earlier word.

    Reference: arXiv:2607.02484, entropy filtering; constants of the released code.

    Args:
        likeness: Similarity of every token to every word.
        share: Of the words to keep, rounded down but at least one, above 0, up to 1; 1 is neutral.
        temperature: Factor on the similarity in the softmax over tokens, above 0.
    """
    weight = (likeness * temperature).softmax(0)
    entropy = -(weight * (weight + 1e-12).log()).sum(0)
    order = entropy.argsort(stable=True)[: max(1, int(likeness.shape[1] * share))]
    return order, entropy[order]


def instruction_relevance(
    features: Float[Tensor, "image_token dim"],
    words: Float[Tensor, "word dim"],
    whole: Float[Tensor, " dim"],
    balance: float = 0.5,
    share: float = 0.2,
    contrary: bool = True,
) -> Float[Tensor, " image_token"]:
    """How much each token bears on the prompt, from its clear words and from its whole, stretched to (almost) 0 … 1.

    Reference: arXiv:2607.02484, entropy-aware dense scoring; constants and sign as in the released code.

    Args:
        features: Tokens in a space shared with the text.
        words: Embedding of every word.
        whole: Embedding of the prompt as a whole.
        balance: Weight of the whole, from 0 to 1; the words get the rest.
        share: Of the words that count, see `clear_words`.
        contrary: Negate the cosines, as the released code does.
    """
    sign, unit = -1.0 if contrary else 1.0, normalised(features)
    likeness = sign * unit @ normalised(words).T
    clear, entropy = clear_words(likeness, share)
    dense = likeness[:, clear] @ (-entropy / FOCUS).softmax(0)
    score = balance * (sign * unit @ normalised(whole)) + (1 - balance) * dense
    low, high = score.min(), score.max()
    return (score - low + 1e-6) / (high - low + 1e-6)


def smooth(scores: Float[Tensor, " image_token"], grid: tuple[int, int]) -> Float[Tensor, " image_token"]:
    """A Gaussian of width 1 over 3 × 3 tokens, mirrored at the border. Grids of one row or column stay as they are.

    Reference: arXiv:2607.02484, spatial prior.

    Args:
        scores: One per token.
        grid: (height, width).
    """
    if min(grid) < 2:
        return scores
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0], device=scores.device) / 2)
    kernel = line[:, None] * line[None]
    wide = torch.nn.functional.pad(scores.reshape(1, 1, *grid), (1, 1, 1, 1), mode="reflect")
    return torch.nn.functional.conv2d(wide, (kernel / kernel.sum())[None, None]).flatten()


def facility_location(
    likeness: Float[Tensor, "image_token image_token"], weight: Float[Tensor, " image_token"], n_keep: int
) -> Int64[Tensor, " kept"]:
    """Greedily the tokens that leave every token a similar representative, in the order of choice.

    Reference: arXiv:2607.02484, structured token selection.

    Args:
        likeness: Similarity of tokens, from 0 to 1.
        weight: How much it matters that a token is covered; all ones is neutral.
        n_keep: How many, from 0 to all.
    """
    covered = torch.zeros_like(weight)
    free = torch.ones_like(weight, dtype=torch.bool)
    order: list[Tensor] = []
    for _ in range(n_keep):
        gain = (likeness - covered).clamp_min(0) @ weight
        new = torch.where(free, gain, -torch.inf).argmax()
        covered = torch.maximum(covered, likeness[new])
        free[new] = False
        order.append(new)
    return torch.stack(order) if order else torch.zeros(0, dtype=torch.long, device=weight.device)


@dataclass(frozen=True)
class EADP(TokenPruner):
    """Facility location over the picture, weighted by what the prompt's clear words point at.

    Picture and text are compared in the language model's embedding space, as the released Qwen code does; the released
    LLaVA code uses CLIP's text tower instead, which loaded models do not carry.

    Reference: arXiv:2607.02484.

    Args:
        balance: Weight of the whole prompt against its clear words, from 0 to 1; released default 0.5.
        sharpness: Exponent on relevance, from 0 (every token matters alike) up; 1 leaves it, released default 1.
        words: Share of the prompt's words that count, above 0, up to 1; released default 0.2.
        contrary: Prefer tokens *unlike* the text, as the released code does.
    """

    balance: float = 0.5
    sharpness: float = 1.0
    words: float = 0.2
    contrary: bool = True

    def needs(self, tower: Tower) -> Needs:
        """The prompt's embeddings."""
        if not (0 <= self.balance <= 1 and 0 < self.words <= 1 and self.sharpness >= 0):
            raise BadInput(
                f"{self.name}: balance={self.balance}, words={self.words}, sharpness={self.sharpness}: balance is from "
                "0 to 1, words above 0 and up to 1, sharpness 0 or more."
            )
        return Needs(text=True)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Cover the picture."""
        unit = normalised(seen.features)
        likeness = ((unit @ unit.T).clamp(-1, 1) + 1) / 2
        kept = facility_location(likeness, self._weight(seen), n_keep).sort().values
        return Selection(kept, {"cover": kept})

    def _weight(self, seen: Seen) -> Tensor:
        if seen.text is None or not len(seen.text):
            return torch.ones_like(seen.features[:, 0], dtype=torch.float32)
        words = seen.text.float()
        relevance = instruction_relevance(
            seen.features, words, words.mean(0), self.balance, self.words, self.contrary
        )
        return smooth(relevance, seen.grid) ** self.sharpness
