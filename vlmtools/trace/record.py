"""What was seen of one prompt and its answer, step by step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.errors import BadInput
from vlmtools.families._prompt import Prompt

GIB = 2.0**30


def maps_gib(n_layers: int, n_heads: int, n_tokens: int, n_prompts: int = 1, n_bytes: int = 2) -> float:
    """Memory that full attention maps of a prompt take, in GiB.

    Args:
        n_layers: Layers whose maps are kept.
        n_heads: Query heads of a layer.
        n_tokens: Tokens of the longest prompt.
        n_prompts: Prompts in the batch.
        n_bytes: Bytes of one weight: 2 in half precision, 4 in single.
    """
    return n_layers * n_heads * n_tokens**2 * n_prompts * n_bytes / GIB


@dataclass(slots=True, eq=False)
class Record:
    """One batch of prompts and what followed. Step 0 is the last token of the prompt, which predicts the first new one.

    Args:
        prompt: What was asked.
        layers: The layer of every row of the results below; layers without attention have none.
        cross: Which of them read the picture by cross-attention.
    """

    prompt: Prompt
    layers: tuple[int, ...] = ()
    cross: tuple[bool, ...] = ()
    _mass: dict[int, list[Tensor]] = field(default_factory=dict)
    _picture: dict[int, list[Tensor]] = field(default_factory=dict)
    _heads: dict[int, list[Tensor]] = field(default_factory=dict)
    _hidden: dict[int, list[Tensor]] = field(default_factory=dict)
    _maps: dict[int, list[Tensor]] = field(default_factory=dict)

    @property
    def n_steps(self) -> int:
        """Steps seen: as many as new tokens, because the last token is never read again."""
        kept = [*self._mass.values(), *self._heads.values(), *self._hidden.values()]
        return max((sum(one.shape[1] for one in many) for many in kept), default=0)

    @property
    def mass(self) -> Float[Tensor, "layer batch step head"]:
        """Share of its attention, 0 to 1, that each head gives the picture.

        In layers of cross-attention every key is a piece of the picture, so it is 1 there, and 0 in the other layers of
        such a model.
        """
        return self._stacked(self._mass, "attention=True")

    @property
    def picture(self) -> Float[Tensor, "layer batch step head piece"]:
        """Attention weight of every piece of the picture, in the order of the prompt; 0 where a prompt has fewer."""
        return self._stacked(self._picture, "picture=True")

    def heads(self, layer: int) -> Float[Tensor, "batch step head width"]:
        """Head outputs in front of the output projection.

        Args:
            layer: Number of the layer, one of `layers`.

        Raises:
            BadInput: They were not traced, or the layer has no attention.
        """
        return self._one(self._heads, self._index(layer), "heads=True")

    @property
    def hidden(self) -> Float[Tensor, "layer batch step width"]:
        """Hidden states: what enters the first layer, then what leaves each layer, before the decoder's last norm."""
        return self._stacked(self._hidden, "hidden=True")

    def maps(self, layer: int) -> list[Tensor]:
        """Full attention maps, one (batch, head, row, key) per pass: the prompt's first, then one row per new token.

        Args:
            layer: Number of a layer that was asked for.

        Raises:
            BadInput: It was not.
        """
        index = self._index(layer)
        if index not in self._maps:
            raise BadInput(f"There is no map of layer {layer}. Ask for it: Trace(vlm, maps=({layer},)).")
        return self._maps[index]

    def _index(self, layer: int) -> int:
        if layer not in self.layers:
            raise BadInput(f"There is no attention in layer {layer}; it is in {list(self.layers)}.")
        return self.layers.index(layer)

    def _stacked(self, kept: dict[int, list[Tensor]], how: str) -> Tensor:
        if not kept:
            raise BadInput(f"This was not traced, or nothing ran yet. Ask for it: Trace(vlm, {how}).")
        rows = _even({index: torch.cat(many, 1) for index, many in kept.items()})
        nothing = torch.zeros_like(next(iter(rows.values())))  # cross-attention is skipped without a picture
        return torch.stack(
            [rows.get(index, nothing) for index in range(max(len(self.layers), *(i + 1 for i in rows)))]
        )

    def _one(self, kept: dict[int, list[Tensor]], index: int, how: str) -> Tensor:
        if not kept:
            raise BadInput(f"This was not traced, or nothing ran yet. Ask for it: Trace(vlm, {how}).")
        if index in kept:
            return torch.cat(kept[index], 1)
        return torch.zeros_like(torch.cat(next(iter(kept.values())), 1))


def _even(rows: dict[int, Tensor]) -> dict[int, Tensor]:
    """Every tensor as wide as the widest: layers that see no piece of the picture have none to show."""
    most = max(one.shape[-1] for one in rows.values())
    return {index: nn.functional.pad(one, (0, most - one.shape[-1])) for index, one in rows.items()}


def keeper(kept: dict[int, list[Tensor]], device: str | None) -> Callable[[int, Tensor], None]:
    """A function that appends rows of a module to a list of its own.

    Args:
        kept: Module → rows.
        device: Where to keep them; None where they are.
    """

    def keep(index: int, rows: Tensor) -> None:
        kept.setdefault(index, []).append(rows.to(device) if device else rows.clone())

    return keep


def picture_weights(
    weights: Float[Tensor, "batch row head key"], places: Sequence[Tensor], first: int
) -> Float[Tensor, "batch row head piece"]:
    """The weights of the pieces of the picture.

    Args:
        weights: Of some rows.
        places: For each member of the batch, the positions of the pieces.
        first: Position of the first key: sliding layers have forgotten what lies before.
    """
    most = max((len(place) for place in places), default=0)
    found = weights.new_zeros(*weights.shape[:-1], most)
    for row, place in enumerate(places):
        key = place.to(weights.device) - first
        there = (key >= 0).nonzero()[:, 0]
        found[row, ..., there] = weights[row][..., key[there]]
    return found
