"""What a method may know of a vision tower, and what it may ask to see of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tower:
    """What a method may ask of the vision tower before it says what it needs. Layers are counted from 0.

    Args:
        name: `model_type` of the tower's configuration, such as `clip_vision_model`.
        n_layers: Attention layers; 0 when the tower's attention cannot be reached.
        feature_layer: The layer whose output goes to the connector.
        whole: Layers in which every patch of a picture sees every other; the rest look through windows.
        class_token: Whether the tower starts with a class token.
    """

    name: str = ""
    n_layers: int = 0
    feature_layer: int = -1
    whole: tuple[int, ...] = ()
    class_token: bool = False

    def near(self, share: float) -> int:
        """The layer at a depth, moved to the closest one that sees whole pictures.

        Args:
            share: Depth from 0 (first layer) to 1 (last).
        """
        wanted = share * (self.n_layers - 1)
        return min(self.whole, key=lambda layer: (abs(layer - wanted), layer), default=0)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a method wants to see besides the connector's output. Layers are counted from 0; negative ones from the end.

    Args:
        received: Layers whose column means of attention are wanted.
        class_attention: Layers whose class-token row of attention is wanted.
        keys: Layers whose keys are wanted.
        patches: The tower's features in front of the connector.
        text: The embedded text of the prompt.
    """

    received: tuple[int, ...] = ()
    class_attention: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    patches: bool = False
    text: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Every layer that is listened to, as written."""
        return tuple(sorted({*self.received, *self.class_attention, *self.keys}))
