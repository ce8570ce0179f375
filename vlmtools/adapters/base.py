"""What a trainable part is: a `Connector` turns vision features into tokens, an `Adapter` sits inside a frozen model.

    moh = MoH(shared=0.5).attach(vlm)        # the host is frozen; only moh.parameters() train
    …                                        # any training loop; output.loss contains the auxiliary losses
    moh.save_pretrained("moh")               # safetensors + JSON, only what was trained
    moh.detach()                             # the host is what it was, bit for bit

    with MoH.from_pretrained("moh", vlm):    # the other way round; also: load("moh", vlm)
        vlm.answer("beach.jpg", "How many boats are there?")

Both are torch modules *and* dataclasses: the fields are the hyperparameters, every one has a default, and they are what
`adapter_config.json` holds. A subclass is decorated with `@dataclass(eq=False, repr=False)` (torch wants its own `==`
and `repr`), lies in a file named after it, and never defines `__init__`.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools import registry
from vlmtools.adapters import _files
from vlmtools.adapters._host import (
    Site,
    Sizes,
    attentions,
    dtype_and_device,
    linears,
    path_of,
    same_sites,
    seat,
)
from vlmtools.adapters._part import Handle, Part
from vlmtools.errors import CannotAttach

__all__ = ["Adapter", "Connector", "Handle", "Part", "Site", "Sizes", "attentions", "load", "path_of"]


@dataclasses.dataclass(eq=False, repr=False)
class Connector(Part):
    """Vision features → tokens for the language model; takes the place of the host's own connector.

    A subclass defines `build` (makes its layers once `d_in` and `d_out` are known) and `forward`. It works by itself as
    well: `Mlp(d_in=1024, d_out=4096)(features)`.

    Args:
        d_in: Width of the vision features; 0 takes it from the host when attached.
        d_out: Width of the language model; 0 takes it from the host when attached.
    """

    d_in: int = 0
    d_out: int = 0

    def __post_init__(self) -> None:
        """Build at once where both widths are known."""
        super().__post_init__()
        # by itself it is its own host: its own call begins and ends the list of losses
        self.register_forward_pre_hook(lambda *_: self.losses.start() if self.host is None else None)
        self.register_forward_hook(
            lambda *_: self.losses.stop() if self.host is None else None, always_call=True
        )
        if self.d_in and self.d_out:
            self.build()

    @abstractmethod
    def build(self) -> None:
        """Make the layers, as wide as `self.d_in` and `self.d_out`; nothing else is known."""

    @abstractmethod
    def forward(
        self, features: Float[Tensor, "batch patch d_in"]
    ) -> Float[Tensor, "batch image_token d_out"]:
        """Features of the vision tower → what stands at the image tokens of the prompt.

        Args:
            features: One row per picture or tile.
        """

    def start(self, old: nn.Module) -> None:
        """Take starting values from the connector whose place this takes; called when it is built for a host.

        Args:
            old: The host's own connector.
        """

    def n_tokens(self, n_patches: int) -> int:
        """How many tokens come out.

        Args:
            n_patches: How many go in.
        """
        return n_patches

    def attach(self, target: Any) -> Self:
        """Take the place of the host's connector; the old one comes back, the same object, on `detach`.

        Args:
            target: A `VLM` or a loaded vision-language model.

        Raises:
            CannotAttach: The host has no connector under a known name, or other widths.
            BadInput: It is attached already.
        """
        host, stack = self._begin(target)
        with stack:
            parent, name, path = seat(host)
            old = parent.get_submodule(name)
            if isinstance(old, _Seat):
                raise CannotAttach(f"{path} holds the connector {old.inner.name!r} already. Detach it first.")
            self._fit(old)
            dtype, device = dtype_and_device(old, host)
            self.to(device=device, dtype=dtype)
            setattr(parent, name, _Seat(self))
            stack.callback(setattr, parent, name, old)
            return self._finish(host, stack)

    def _fit(self, old: nn.Module) -> None:
        projections = list(linears(old))
        if not projections:
            raise CannotAttach(
                f"The host's connector {type(old).__name__} has no projection to take widths from."
            )
        want = projections[0].in_features, projections[-1].out_features
        built = any(True for _ in self.children())
        if (self.d_in or want[0], self.d_out or want[1]) != want:
            raise CannotAttach(
                f"{self.name} is for widths {self.d_in} → {self.d_out}; the host's connector has {want[0]} → "
                f"{want[1]}. Leave d_in and d_out out to take the host's."
            )
        self.d_in, self.d_out = want
        if not built:
            self.build()
            self.start(old)

    @classmethod
    def tiny(cls) -> Self:
        """Takes the widths of its host."""
        return cls()


class _Seat(nn.Module):
    """Stands where the host's connector stood: hosts differ in how they call it."""

    def __init__(self, connector: Connector) -> None:
        super().__init__()
        self.inner = connector

    def forward(self, features: Tensor, *_: Any, **__: Any) -> Tensor:
        """Rows of patches without a batch axis (as Qwen's merger gets them) are read as one picture."""
        if features.dim() == 2:
            joined: Tensor = self.inner(features.reshape(1, -1, self.inner.d_in))
            return joined[0]
        tokens: Tensor = self.inner(features)
        return tokens


@dataclasses.dataclass(eq=False, repr=False)
class Adapter(Part):
    """Trainable layers inside a frozen model, put there with hooks: no class and no `forward` of the host is replaced.

    A subclass defines three things: `find` (where), `layer` (what) and `wire` (the hooks of one place). The layers
    live in `self.layers`, under the place's dotted path with `-` for `.`; while attached, the host has the adapter as a
    child module, so that `host.parameters()`, optimisers, `train()`, `to()` and trainers reach it.
    """

    def __post_init__(self) -> None:
        """No layers yet: they are made for a host, or from saved places."""
        super().__post_init__()
        self.layers = nn.ModuleDict()
        self.sizes: dict[str, Sizes] = {}
        self.host_values: dict[str, Tensor] = {}

    @abstractmethod
    def find(self, host: nn.Module) -> Sequence[Site]:
        """Every place a layer goes, in order.

        Args:
            host: The Hugging Face model.

        Raises:
            CannotAttach: The host has nothing to act on.
        """

    @abstractmethod
    def layer(self, sizes: Sizes) -> nn.Module:
        """The trainable layer of one place, in float32 on the CPU; the base moves it.

        Args:
            sizes: Of the place; JSON values only, since saved adapters are built from them without a host.
        """

    @abstractmethod
    def wire(self, host: nn.Module, site: Site, layer: Any) -> Iterator[Handle]:
        """Switch one place on, yielding one handle per hook; an error half-way takes everything back.

        Args:
            host: The Hugging Face model.
            site: The place.
            layer: What `layer` made for it.
        """

    def start(self, site: Site, layer: Any) -> None:
        """Take starting values from the host; called once per place, before dtype and device are set.

        Args:
            site: The place, its module still as it was.
            layer: What `layer` made for it.
        """

    def shared(self, sizes: Mapping[str, Sizes]) -> Mapping[str, nn.Module]:
        """Further modules that belong to no single place, by name (no `-` in it); they are in `self.layers` as well.

        Args:
            sizes: Dotted path → sizes, of all places.
        """
        return {}

    def trained_in_host(self, host: nn.Module) -> Sequence[str]:
        """Names of the host's own parameters that train too; saved with the adapter, put back on `detach`.

        Args:
            host: The Hugging Face model.
        """
        return ()

    def attach(self, target: Any) -> Self:
        """Put the layers in and freeze the host; a second attach brings trained values back.

        Args:
            target: A `VLM` or a loaded model.

        Raises:
            CannotAttach: The host has nothing to act on, or is not what the layers were made for.
            BadInput: It is attached already.
        """
        host, stack = self._begin(target)
        with stack:
            sites = list(self.find(host))
            self._make(host, sites)
            self._unfreeze(host, stack)
            setattr(host, self._child, self)
            stack.callback(delattr, host, self._child)
            for site in sites:
                for handle in self.wire(host, site, self.layers[_key(site.name)]):
                    stack.callback(handle.remove)
            return self._finish(host, stack)

    def places(self) -> dict[str, Any]:
        """Dotted path → sizes, in order."""
        return {"sites": [[name, dict(sizes)] for name, sizes in self.sizes.items()]}

    def build_for(self, places: Mapping[str, Any]) -> None:
        """Make every layer from saved sizes.

        Args:
            places: What `places` gave.
        """
        self.sizes = dict(places["sites"])
        made = {_key(name): self.layer(sizes) for name, sizes in self.sizes.items()}
        self.layers = nn.ModuleDict({**made, **self.shared(self.sizes)})

    def tensors(self) -> dict[str, Tensor]:
        """Own parameters and buffers, and `host.<name>` for the host's parameters that were trained."""
        live = dict(self.host.named_parameters()) if self.host is not None else {}
        values = {f"host.{name}": live.get(name, value) for name, value in self.host_values.items()}
        return {**self.state_dict(), **values}

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over saved tensors.

        Args:
            tensors: What `tensors` gave.
        """
        self.host_values = {
            name.removeprefix("host."): one for name, one in tensors.items() if name.startswith("host.")
        }
        super().put({name: one for name, one in tensors.items() if not name.startswith("host.")})

    def _make(self, host: nn.Module, sites: Sequence[Site]) -> None:
        if not sites:
            raise CannotAttach(f"{self.name} finds no place in {type(host).__name__}. Check its settings.")
        if self.sizes:
            same_sites(self.sizes, sites)
        else:
            self.build_for({"sites": [[site.name, dict(site.sizes)] for site in sites]})
            for site in sites:
                self.start(site, self.layers[_key(site.name)])
        for site in sites:
            dtype, device = dtype_and_device(site.module, host)
            self.layers[_key(site.name)].to(dtype=dtype, device=device)
        dtype, device = dtype_and_device(sites[0].module, host)
        for name, module in self.layers.items():
            if name not in map(_key, self.sizes):
                module.to(dtype=dtype, device=device)

    def _unfreeze(self, host: nn.Module, stack: ExitStack) -> None:
        """Train some of the host's own parameters; their values are swapped in now and out again on detach."""
        live = dict(host.named_parameters())
        for name in self.trained_in_host(host):
            parameter, before = live[name], live[name].detach().clone()
            with torch.no_grad():
                parameter.copy_(self.host_values.get(name, before))
            self.host_values[name] = parameter.detach()
            parameter.requires_grad_(True)
            stack.callback(self._swap_out, name, parameter, before)

    def _swap_out(self, name: str, parameter: nn.Parameter, before: Tensor) -> None:
        self.host_values[name] = parameter.detach().clone()
        with torch.no_grad():
            parameter.copy_(before)
        parameter.grad = None
        parameter.requires_grad_(False)


def _key(path: str) -> str:
    return path.replace(".", "-")


def load(folder: str | Path, target: Any = None) -> Part:
    """Load a saved connector or adapter, whatever its class.

    Args:
        folder: Where `save_pretrained` put it.
        target: Attach to this model; None attaches to nothing.

    Raises:
        BadInput: The files are missing or damaged.
        UnknownName: No connector or adapter of that name is installed.
    """
    config, _ = _files.read(folder)
    kind = registry.load("vlmtools.adapters", str(config[_files.TYPE]), Part)  # type: ignore[type-abstract]
    return kind.from_pretrained(folder, target)
