"""Listen to the vision tower while it encodes: which layers a method asked for, and what they said."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.families._kernel import tap
from vlmtools.families._probe import Anatomy
from vlmtools.patches.base import Handle
from vlmtools.pruning._scores import Heard
from vlmtools.pruning.base import Needs, Tower

CLASS_TOKENS = ("class_embedding", "cls_token")
"""What the class token's parameter is called."""


def look_at_tower(parts: Anatomy) -> Tower:
    """What a method may ask of the tower.

    Args:
        parts: Of the model.
    """
    tower, n = parts.model.get_encoder(modality="image"), len(parts.vision)
    config = getattr(tower, "config", None)
    whole = getattr(config, "fullatt_block_indexes", None)
    names = {name.rpartition(".")[2] for name, _ in tower.named_parameters()}
    return Tower(
        name=str(getattr(config, "model_type", "")),
        n_layers=n,
        feature_layer=_feature_layer(parts.model.config, n),
        whole=tuple(range(n)) if whole is None else tuple(sorted(whole)),
        class_token=not names.isdisjoint(CLASS_TOKENS),
    )


def _feature_layer(config: Any, n_layers: int) -> int:
    """`vision_feature_layer` counts the embeddings as output 0; of several the last one counts."""
    wanted = getattr(config, "vision_feature_layer", None)
    if wanted is None:
        return n_layers - 1
    several: list[int] = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    return max(one - 1 if one >= 0 else n_layers + one for one in several)


@dataclass(slots=True, eq=False)
class Listener:
    """What a tower said during the last encoding.

    Args:
        parts: Of the model.
        tower: The same in short.
        needs: What is listened for.
    """

    parts: Anatomy
    tower: Tower
    needs: Needs
    heard: dict[int, Heard] = field(default_factory=dict)
    patches: list[Tensor] = field(default_factory=list)
    is_on: bool = False

    def install(self) -> Iterator[Handle]:
        """One tap per layer that was asked for.

        Raises:
            CannotAttach: A layer does not exist, looks through windows, or there is no class token.
        """
        self._check()
        encoder = self.parts.model.get_encoder(modality="image")
        for layer in sorted({self._layer(one) for one in self.needs.layers}):
            heard = self.heard[layer] = Heard(
                self.tower.class_token,
                [] if self._wants(self.needs.received, layer) else None,
                [] if self._wants(self.needs.class_attention, layer) else None,
                [] if self._wants(self.needs.keys, layer) else None,
            )
            yield tap(encoder, self.parts.vision[layer].module, self._ear(heard))
        if self.needs.patches:
            block = self.parts.vision[self._layer(self.tower.feature_layer)].name.rpartition(".")[0]
            yield self.parts.model.get_submodule(block).register_forward_hook(self._block)

    def modules(self) -> list[str]:
        """Dotted names of what is listened to."""
        return [self.parts.vision[layer].name for layer in self.heard]

    def start(self) -> None:
        """Forget the last encoding and listen."""
        self.is_on = True
        self.patches.clear()
        for heard in self.heard.values():
            heard.clear()

    def stop(self) -> None:
        """Listen no more; what was heard stays until the next start."""
        self.is_on = False

    def values(self) -> Mapping[tuple[str, int], Tensor]:
        """(what, layer as the method wrote it) → values of all patches, (patch, channel)."""
        found = {}
        wanted = {
            "received": self.needs.received,
            "first": self.needs.class_attention,
            "keys": self.needs.keys,
        }
        for what, layers in wanted.items():
            for layer in layers:
                found[what, layer] = torch.cat(getattr(self.heard[self._layer(layer)], what))
        if self.needs.received:
            found["queries", 0] = torch.cat(self.heard[self._layer(self.needs.received[0])].queries)
        if self.needs.patches:
            found["patches", 0] = torch.cat(self.patches)
        return found

    def _ear(self, heard: Heard) -> Any:
        def see(call: Any) -> None:
            if self.is_on:
                heard.see(call)

        return see

    def _block(self, _module: Any, _inputs: Any, output: Any) -> None:
        if not self.is_on:
            return
        states = (output[0] if isinstance(output, tuple) else output).detach().float()
        if states.ndim == 3 and self.tower.class_token:
            states = states[:, 1:]
        self.patches.append(states.reshape(-1, states.shape[-1]))

    def _layer(self, wanted: int) -> int:
        return wanted % self.tower.n_layers

    def _wants(self, wanted: tuple[int, ...], layer: int) -> bool:
        return layer in {self._layer(one) for one in wanted}

    def _check(self) -> None:
        n, needs = self.tower.n_layers, self.needs
        if not n and (needs.layers or needs.patches):
            raise CannotAttach(
                f"The attention of the vision tower {self.tower.name!r} cannot be found, so nothing can be heard "
                "there. Use a method that looks at the connector's output only, such as divprune, random or grid."
            )
        strange = [one for one in needs.layers if not -n <= one < n]
        if strange:
            raise CannotAttach(
                f"There is no layer {strange[0]} in the vision tower: it has layers 0 to {n - 1}. Choose another in "
                "the method's settings."
            )
        windowed = [one for one in needs.layers if self._layer(one) not in self.tower.whole]
        if windowed:
            raise CannotAttach(
                f"Layer {windowed[0]} of the vision tower looks through windows, so its attention does not compare "
                f"tokens of the whole picture; layers {list(self.tower.whole)} do. Choose one of these."
            )
        if needs.class_attention and not self.tower.class_token:
            raise CannotAttach(
                f"The vision tower {self.tower.name!r} has no class token whose attention could be read. Use a method "
                "that reads the mean attention of all patches, such as hiprune, or none, such as divprune."
            )
