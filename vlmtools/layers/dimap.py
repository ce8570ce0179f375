"""DIMAP: prune the weights of a hierarchical vision transformer without data, fairly across its stages.

A weight counts by the distortion that its loss would add, relative to all larger weights of its layer; the scores are
ranked over one kind of module at a time (queries, keys and values; projections; feed-forward parts).

masks = prune(swin, 0.5)       # half of each kind of module is zero now
... train a step ...
apply_masks(swin, masks)       # keep it so

Reference: arXiv:2404.13648, formula 10; the score is that of arXiv:2010.07611.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vlmtools.errors import BadInput

_PARTS = r"(?:q_proj|k_proj|v_proj|query|key|value|q|k|v|kv|wq|wk|wv)"
KINDS: tuple[tuple[str, str], ...] = (
    (rf"(?:^|\.)(?:attn|self|attention)\.(?:(?:h_|l_)?qkv|l_q|l_kv|qkv_linear|{_PARTS})$", "qkv"),
    (r"(?:^|\.)(?:attn\.(?:[hl]_)?proj|attn\.wo|attention\.o_proj|attention\.output\.dense)$", "proj"),
    (r"(?:^|\.)(?:mlp\.fc\d|mlp\.[02]|intermediate\.dense|(?<!attention\.)output\.dense)$", "mlp"),
)
"""Pattern of a layer's name → the kind of module that it is ranked with; other layers are kept whole."""


def importance(weight: Tensor) -> Tensor:
    """Square of each weight over the sum of squares of itself and all larger ones of the layer, in float64.

    Args:
        weight: Weights of one layer, any shape; the largest always gets 1.

    Reference: arXiv:2404.13648, formula 10
    """
    flat = weight.detach().double().flatten()
    order = flat.abs().argsort(descending=True, stable=True)
    squares = flat[order].square()
    scores = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(flat).scatter(0, order, scores).reshape(weight.shape)


def keep_masks(weights: Mapping[str, Tensor], kinds: Mapping[str, str], sparsity: float) -> dict[str, Tensor]:
    """Which weights stay: in each kind of module the same share goes, wherever in the depth it scores lowest.

    Args:
        weights: Layer → its weights.
        kinds: Layer → the kind of module it is ranked with; layers that are not named are kept out of the result.
        sparsity: Share of weights that goes, in [0, 1); 0 keeps all.

    Raises:
        BadInput: The share is outside its range.
    """
    if not 0 <= sparsity < 1:
        raise BadInput(f"sparsity is {sparsity}. It is the share of weights to zero, in [0, 1). Try 0.5.")
    masks: dict[str, Tensor] = {}
    for kind in sorted(set(kinds.values())):
        layers = [name for name in weights if kinds.get(name) == kind]
        if layers:
            kept = _best(torch.cat([importance(weights[name]).flatten() for name in layers]), sparsity)
            parts = torch.split(kept, [weights[name].numel() for name in layers])
            masks |= {
                name: part.reshape(weights[name].shape) for name, part in zip(layers, parts, strict=True)
            }
    return masks


def kind_of(name: str) -> str | None:
    """The kind of module that a linear layer belongs to; None for layers that are kept whole.

    Args:
        name: Name of the layer in timm's, the authors' or transformers' Swin, or in a backbone of this package.
    """
    return next((kind for pattern, kind in KINDS if re.search(pattern, name)), None)


def prune(
    model: nn.Module, sparsity: float, kinds: Callable[[str], str | None] = kind_of
) -> dict[str, Tensor]:
    """Zero the least important weights in place, and say which stayed.

    Patch embeddings, patch merging, norms, biases and the classifier are kept. Where queries, keys and values of one
    attention are several layers they are scored as the one that they are in the paper.

    Args:
        model: Swin of transformers, timm or its authors, a backbone of this package, or another model whose layers are
            named alike.
        sparsity: Share of the weights of each kind of module that goes, in [0, 1); 0 changes nothing.
        kinds: Name of a linear layer → the kind of module it is ranked with; None keeps the layer whole.

    Raises:
        BadInput: No layer of the model is known by name, or the share is outside its range.
    """
    linear = {
        name: one.weight for name, one in model.named_modules() if isinstance(one, nn.Linear) and kinds(name)
    }
    if not linear:
        raise BadInput(
            f"{type(model).__name__} has no linear layer named like those of Swin (attn.qkv, attn.proj, mlp.fc1, …). "
            "Give a Swin-like model, or say with kinds= which layer is ranked with which."
        )
    whole: dict[str, list[str]] = {}
    for name in linear:
        whole.setdefault(re.sub(rf"\.{_PARTS}$", ".qkv", name), []).append(name)
    joined = {layer: torch.cat([linear[part].detach() for part in parts]) for layer, parts in whole.items()}
    found_kinds = {layer: kind for layer, parts in whole.items() if (kind := kinds(parts[0]))}
    masks = {
        part: mask
        for layer, found in keep_masks(joined, found_kinds, sparsity).items()
        for part, mask in zip(
            whole[layer], torch.split(found, [linear[one].shape[0] for one in whole[layer]]), strict=True
        )
    }
    apply_masks(model, masks)
    return masks


@torch.no_grad()
def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero again what was pruned; for after a step of training.

    Args:
        model: Changed in place.
        masks: What `prune` gave.
    """
    for name, mask in masks.items():
        weight = model.get_parameter(f"{name}.weight")
        weight.mul_(mask.to(weight.device))


def _best(scores: Tensor, sparsity: float) -> Tensor:
    """Marks the highest scores; of equal ones the first stay."""
    n_kept = len(scores) - int(len(scores) * sparsity)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[scores.argsort(descending=True, stable=True)[:n_kept]] = True
    return kept
