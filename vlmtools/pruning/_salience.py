"""What attention methods rank tokens by: the class token's attention, or what all patches give where there is none."""

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.pruning.base import Seen, Tower


def whole_layer(tower: Tower, layer: int | None, share: float | None, method: str) -> int:
    """The layer to listen to, as written if the user wrote one: patches of a picture see each other in it.

    Args:
        tower: The vision tower.
        layer: As the user wrote it, negative from the end; None to choose one.
        share: Depth from 0 to 1 of the layer to choose; None for the layer whose output the connector gets.
        method: Name for messages.

    Raises:
        CannotAttach: The tower cannot be listened to, or not there.
    """
    if not tower.n_layers or not tower.whole:
        raise CannotAttach(
            f"{method} ranks tokens by the attention inside the vision tower, and "
            f"{tower.name or 'this tower'} has no layer whose attention over the whole picture can be read. "
            "Use divprune, grid or random, which need none."
        )
    if layer is None:
        depth = tower.feature_layer % tower.n_layers / max(1, tower.n_layers - 1)
        return tower.near(depth if share is None else share)
    if not -tower.n_layers <= layer < tower.n_layers or layer % tower.n_layers not in tower.whole:
        raise CannotAttach(
            f"{method}: layer {layer} of {tower.name or 'the tower'} shows no attention over the whole picture; "
            f"layers {', '.join(map(str, tower.whole))} do. Choose one of them or leave the setting at None."
        )
    return layer


def salience(seen: Seen) -> Float[Tensor, " image_token"]:
    """The one layer's class attention, or the mean attention received where the tower has no class token.

    Args:
        seen: A view of a method whose needs name one layer.
    """
    return next(iter((seen.class_attention or seen.received).values()))


def normalised(tokens: Float[Tensor, "*any dim"]) -> Float[Tensor, "*any dim"]:
    """Rows of length 1 in float32; rows of zeros stay zeros.

    Args:
        tokens: One per row.
    """
    return torch.nn.functional.normalize(tokens.float(), dim=-1)
