"""Find HiPrune's object layer for a tower that nobody has looked at yet, from some pictures and no labels."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._probe import anatomy, bare
from vlmtools.pruning._encode import encoder_inputs, encoder_of
from vlmtools.pruning._tower import Listener, look_at_tower
from vlmtools.pruning.base import Needs


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a tower looks at, layer by layer.

    Args:
        object_layer: Last layer of the middle phase; give it to `HiPrune(object_layer=…)`.
        curve: Layer → how far apart the tokens lie that it attends to most, a mean over pictures.
        n_pictures: How many were looked at.
    """

    object_layer: int = 0
    curve: Mapping[int, float] = field(default_factory=dict)
    n_pictures: int = 0


def dispersion(
    received: Float[Tensor, "layer patch"], features: Float[Tensor, "patch dim"], share: float = 0.1
) -> Float[Tensor, " layer"]:
    """Mean distance between the final features of the patches that receive most attention, for every layer.

    Reference: the analysis beside the released program of arXiv:2508.00553, which draws it at 5, 10 and 25 %.

    Args:
        received: Attention each patch receives.
        features: Of the tower's last layer in use.
        share: Of the patches that count, above 0 and up to 1; at least two do.
    """
    n = max(2, round(share * received.shape[1]))
    chosen = features.float()[received.topk(n, dim=1).indices]
    return torch.cdist(chosen, chosen).sum((1, 2)) / (n * (n - 1))


def phases(curve: Sequence[float], n_phases: int = 3) -> tuple[int, ...]:
    """Where the phases of a curve begin: the cut into level pieces with the least squared rest.

    Args:
        curve: One value per layer, at least as many as phases.
        n_phases: Pieces, each at least one layer long.
    """
    values = torch.tensor(list(curve), dtype=torch.float64)

    def rest(starts: tuple[int, ...]) -> float:
        ends = (*starts[1:], len(values))
        pieces = [values[start:end] for start, end in zip(starts, ends, strict=True)]
        return sum(float((piece - piece.mean()).square().sum()) for piece in pieces)

    cuts = itertools.combinations(range(1, len(values)), n_phases - 1)
    return min(((0, *cut) for cut in cuts), key=rest)


def calibrate(target: Any, batches: Iterable[Mapping[str, Any]], share: float = 0.1) -> Calibration:
    """The layer at the turn from objects to the whole picture, measured on pictures.

    The curve of `dispersion` is cut into three level phases (shallow, middle, deep); the object layer is the last one
    of the middle phase. How the authors read their curve is not written down: this rule is ours.

    Args:
        target: A `VLM`, or any loaded Hugging Face model that generates text from pictures.
        batches: Inputs as the processor gives them, one picture each; some dozens are enough.
        share: Of the patches that count.

    Raises:
        BadInput: No pictures, or fewer than three layers that see whole pictures.
        CannotAttach: The tower cannot be listened to.
    """
    model = bare(getattr(target, "model", target) if hasattr(target, "processor") else target)
    parts = anatomy(model)
    tower = look_at_tower(parts)
    layers = tuple(layer for layer in tower.whole if layer <= tower.feature_layer % max(1, tower.n_layers))
    if len(layers) < 3:
        raise BadInput(
            f"{tower.name or 'The tower'} has {len(layers)} layers in use that see whole pictures, and three phases "
            "need three. Choose object_layer by hand, or leave it at None."
        )
    listener = Listener(parts, tower, Needs(received=layers, patches=True))
    handles = list(listener.install())
    try:
        curves = [_curve(model, listener, batch, share) for batch in batches]
    finally:
        for handle in handles:
            handle.remove()
    if not curves:
        raise BadInput("There are no pictures to calibrate on. Give some dozens, such as those of your task.")
    mean = torch.stack(curves).mean(0).tolist()
    return Calibration(layers[phases(mean)[2] - 1], dict(zip(layers, mean, strict=True)), len(curves))


@torch.no_grad()
def _curve(model: Any, listener: Listener, batch: Mapping[str, Any], share: float) -> Tensor:
    listener.start()
    try:
        encoder_of(model, "image")(**encoder_inputs(model, "image", batch), return_dict=True)
    finally:
        listener.stop()
    values = listener.values()
    received = torch.stack([values["received", layer][:, 0] for layer in listener.needs.received])
    features = values["patches", 0]
    if len(features) != received.shape[1]:
        raise BadInput(
            f"The tower gave {len(features)} features and {received.shape[1]} scores of patches, so they cannot be "
            "brought together. Choose object_layer by hand."
        )
    return dispersion(received, features.to(received.device), share)
