"""CDPruner: tokens that differ from each other and bear on the question, by a determinantal point process."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.pruning._salience import normalised
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower


def relevance(
    image: Float[Tensor, "*batch image_token width"], text: Float[Tensor, "text width"], contrary: bool = True
) -> Float[Tensor, "*batch image_token"]:
    """How much each token bears on the instruction, stretched to (almost) 0 … 1 over everything in the call.

    Reference: arXiv:2506.10967; sign and stretching as in the released code.

    Args:
        image: Tokens in a space shared with the text.
        text: One or more instructions; their cosines are averaged.
        contrary: Negate the cosine, as the released code does: patch tokens of CLIP are contrary to the text they show.
    """
    cosine = normalised(image) @ normalised(text).T
    cosine = (-cosine if contrary else cosine).mean(-1)
    span = cosine.max() - cosine.min()
    if span == 0:  # one token, or tokens all alike: the instruction decides nothing
        return torch.ones_like(cosine)
    return (cosine - cosine.min() + 1e-6) / span


def conditional_kernel(
    features: Float[Tensor, "image_token dim"], weight: Float[Tensor, " image_token"]
) -> Float[Tensor, "image_token image_token"]:
    """Cosine between tokens, multiplied on both sides by their relevance.

    Reference: arXiv:2506.10967.

    Args:
        features: The tokens that the language model would read.
        weight: Their relevance, above 0; all ones is neutral and gives a process of diversity alone.
    """
    unit = normalised(features)
    return weight[:, None] * (unit @ unit.T) * weight[None]


def most_likely(kernel: Float[Tensor, "image_token image_token"], n_keep: int) -> Int64[Tensor, " kept"]:
    """Greedily the most likely subset of a determinantal point process, in the order of choice.

    Once nothing differs from what is chosen any more (the kernel's rank is used up), the rest is filled by the
    kernel's diagonal, where the released program divides by 0 and keeps too few.

    Reference: arXiv:1709.05135, algorithm 1; arXiv:2506.10967.

    Args:
        kernel: Positive semi-definite.
        n_keep: How many, from 0 to all.
    """
    left, first = kernel.diagonal().clone(), kernel.diagonal().clone()
    rows = kernel.new_zeros(n_keep, len(kernel))
    order: list[Tensor] = []
    for step in range(n_keep):
        new = left.argmax()
        if left[new] <= torch.finfo(kernel.dtype).eps * first.max():
            break
        row = (kernel[new] - rows[:step, new] @ rows[:step]) / left[new].sqrt()
        rows[step] = row
        left = left - row.square()
        left[new] = -torch.inf
        order.append(new)
    chosen = torch.stack(order) if order else torch.zeros(0, dtype=torch.long, device=kernel.device)
    rest = first.index_fill(0, chosen, -torch.inf).argsort(descending=True, stable=True)
    return torch.cat([chosen, rest[: n_keep - len(chosen)]])


@dataclass(frozen=True)
class CDPruner(TokenPruner):
    """Greedy mode of a determinantal point process whose kernel is weighted by relevance to the prompt.

    The paper compares pictures and text in CLIP, whose text tower language models do not carry. Here both are compared
    in the embedding space of the language model, as later ports do: the connector's output with the mean embedding of
    the prompt's words.

    Reference: arXiv:2506.10967.

    Args:
        contrary: Prefer tokens *unlike* the text, as the released code does and as ports to the language model's space
            kept it.
        instruction: Use the prompt; False is a process of diversity alone.
    """

    contrary: bool = True
    instruction: bool = True

    def needs(self, tower: Tower) -> Needs:
        """The prompt's embeddings."""
        return Needs(text=self.instruction)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Most likely subset."""
        weight = torch.ones_like(seen.features[:, 0], dtype=torch.float32)
        if seen.text is not None and len(seen.text):
            weight = relevance(seen.features, seen.text.float().mean(0, keepdim=True), self.contrary)
        kept = most_likely(conditional_kernel(seen.features.float(), weight), n_keep).sort().values
        return Selection(kept, {"diverse": kept})
