"""VisionZip: dominant tokens by class attention, and contextual tokens that gather the others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.pruning._salience import normalised, salience, whole_layer
from vlmtools.pruning.base import Needs, Seen, Selection, TokenPruner, Tower


def dominant(attention: Float[Tensor, " image_token"], n: int) -> Int64[Tensor, " dominant"]:
    """Tokens by descending class attention; of equal ones the lower index first.

    Reference: arXiv:2412.04467.

    Args:
        attention: What each token receives from the class token; a sum over heads ranks like a mean.
        n: How many, from 0 to all.
    """
    return attention.argsort(descending=True, stable=True)[:n]


def spread_targets(n_rest: int, n_targets: int) -> Int64[Tensor, " target"]:
    """Places among the tokens that are not dominant, at equal steps from the first.

    Reference: arXiv:2412.04467; the step is rounded down as in the released code, so the last places may
    lie far from the end.

    Args:
        n_rest: Tokens that are not dominant.
        n_targets: How many places, from 0 to `n_rest`.
    """
    step = max(1, n_rest // max(1, n_targets))
    return torch.arange(0, n_rest, step)[:n_targets]


def gather_context(
    tokens: Float[Tensor, "rest dim"],
    keys: Float[Tensor, "rest width"],
    targets: Int64[Tensor, " target"],
    average: bool = False,
) -> Float[Tensor, "target dim"]:
    """Every token joins the target with the most similar key; a target becomes itself plus the mean of who joined.

    Reference: arXiv:2412.04467; the sum as in the released code.

    Args:
        tokens: Those that are not dominant.
        keys: Of attention, a mean over heads.
        targets: Places among them.
        average: Take the mean of the target and all who joined instead, which keeps the scale of a single token.
    """
    unit = normalised(keys)
    joined = (unit @ unit[targets].T).argmax(-1)
    member = torch.nn.functional.one_hot(joined, len(targets)).to(tokens.dtype)
    member[targets] = 0
    count, total = member.sum(0)[:, None], member.T @ tokens
    if average:
        return (tokens[targets] + total) / (count + 1)
    return tokens[targets] + total / count.clamp_min(1)


@dataclass(frozen=True)
class VisionZip(TokenPruner):
    """Most of the budget by class attention, the rest for tokens that gather what is left; no training.

    Towers without class token: mean attention received. The released program merges in front of the connector and also
    hands on the class token; here merging happens behind the connector, and every token of the budget is a patch.

    Reference: arXiv:2412.04467.

    Args:
        contextual: Share of the budget for gathered tokens, from 0 to 1; the paper uses 10 of 64, 20 of 128, 30 of 192.
        average: Gathered tokens are means; the released code adds the target to the mean of the others, which about
            doubles their length.
        layer: Layer of the tower, negative from the end; None is the one whose output goes to the connector.
    """

    contextual: float = 10 / 64
    average: bool = False
    layer: int | None = None

    def needs(self, tower: Tower) -> Needs:
        """Attention and keys of one layer."""
        if not 0 <= self.contextual <= 1:
            raise BadInput(
                f"{self.name}: contextual={self.contextual} is no share of the budget. Choose one from 0 to 1."
            )
        layers = (whole_layer(tower, self.layer, None, self.name),)
        if tower.class_token:
            return Needs(class_attention=layers, keys=layers)
        return Needs(received=layers, keys=layers)

    def select(self, seen: Seen, n_keep: int) -> Selection:
        """Dominant, then contextual."""
        n_contextual = round(self.contextual * n_keep)
        kept = dominant(salience(seen), n_keep - n_contextual).sort().values
        if not n_contextual:
            return Selection(kept, {"dominant": kept})
        free = torch.ones(seen.n_tokens, dtype=torch.bool, device=kept.device).index_fill(0, kept, False)
        rest = free.nonzero()[:, 0]
        targets = spread_targets(len(rest), n_contextual).to(kept.device)
        keys = next(iter(seen.keys.values())).mean(1)
        merged = gather_context(seen.features[rest].float(), keys[rest], targets, self.average)
        kinds = {"dominant": kept, "contextual": rest[targets]}
        return Selection(kept, kinds, merged.to(seen.features.dtype), rest[targets])
