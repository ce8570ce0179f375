"""Adapters: trainable layers inside a frozen model; `base.py` is the door to it."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from vlmtools.adapters._host import Site, Sizes, dtype_and_device, same_sites
from vlmtools.adapters._part import Handle, Part
from vlmtools.errors import CannotAttach


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
