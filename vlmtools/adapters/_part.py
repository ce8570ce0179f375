"""What connectors and adapters share; `base.py` is the door to it."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from vlmtools.adapters import _files
from vlmtools.adapters._host import freeze, host_of, thaw
from vlmtools.adapters._losses import Losses, Over
from vlmtools.errors import BadInput, CannotAttach


class Handle(Protocol):
    """Anything that is taken back by calling `remove`: hooks of torch, registered functions."""

    def remove(self) -> object:
        """Take it back."""


@dataclasses.dataclass(slots=True)
class _On:
    """The host a part sits on, and what takes it off. No module itself: a host is nobody's child."""

    host: nn.Module | None = None
    stack: ExitStack = dataclasses.field(default_factory=ExitStack)


@dataclasses.dataclass(eq=False, repr=False)
class Part(nn.Module, ABC):
    """What connectors and adapters share: attach and detach, auxiliary losses, files."""

    over_sites: ClassVar[Over] = "sum"
    """How the same auxiliary loss at several places becomes one: sum or mean."""
    starts_neutral: ClassVar[bool] = False
    """True where a freshly attached part leaves the host's outputs as they were, within rounding."""

    def __post_init__(self) -> None:
        """Become a torch module, then check the settings."""
        super().__init__()
        self._on = _On()
        self.losses = Losses()
        self.check()

    @property
    def name(self) -> str:
        """File name of the part: its name everywhere."""
        return type(self).__module__.rpartition(".")[2]

    def check(self) -> None:
        """Raise BadInput for settings that cannot be; called once, before anything is built."""

    @abstractmethod
    def attach(self, target: Any) -> Self:
        """Put it in, freeze the host, follow its dtype and device.

        Args:
            target: A `VLM` or a loaded model.
        """

    def detach(self) -> None:
        """Take it out: the host has its own modules, weights and flags again. The second call does nothing."""
        self._on.stack.close()

    def __enter__(self) -> Self:
        """It is on already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take it out, also after an error."""
        self.detach()

    @property
    def host(self) -> nn.Module | None:
        """The model it sits on; None when it sits on none."""
        return self._on.host

    def add_loss(self, name: str, value: Tensor, weight: float = 1.0, site: str = "") -> None:
        """Report an auxiliary loss from inside a forward pass; recomputation under checkpointing is ignored.

        Args:
            name: Of the loss, such as balance.
            value: The loss without its factor.
            weight: Its factor in the total; 0 reports it only.
            site: Where it arose; needed where a part has several places.
        """
        self.losses.add(name, value, weight, site, self.training)

    def aux_losses(self) -> dict[str, Tensor]:
        """Loss → value without its factor, of the latest forward pass; empty where there is none."""
        return self.losses.each(self.over_sites)

    def aux_loss(self) -> Tensor:
        """The weighted sum of the auxiliary losses of the latest forward pass.

        While the part is attached and in training mode, the host's `output.loss` contains it already.
        """
        return self.losses.total(self.over_sites)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved, by name: own parameters and buffers."""
        return dict(self.state_dict())

    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over saved tensors.

        Args:
            tensors: What `tensors` gave.
        """
        self.load_state_dict(dict(tensors), strict=True, assign=True)

    def places(self) -> dict[str, Any]:
        """What the layers were built for, beyond the settings: written to the configuration."""
        return {}

    def build_for(self, places: Mapping[str, Any]) -> None:
        """Make the layers without a host, as `places` described them.

        Args:
            places: What `places` gave.
        """

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `adapter_model.safetensors` and `adapter_config.json`; the host is named, never saved.

        Args:
            folder: Made if absent.
        """
        config = {
            _files.TYPE: self.name,
            "settings": _files.settings(self),
            "places": self.places(),
            "host": self._host_facts(),
        }
        _files.write(folder, config, self.tensors())

    @classmethod
    def from_pretrained(cls, folder: str | Path, target: Any = None) -> Self:
        """Load what `save_pretrained` wrote.

        Args:
            folder: Where it is.
            target: Attach to this model; None attaches to nothing.

        Raises:
            BadInput: The files are missing, damaged, or of another kind.
            CannotAttach: The model is not of the architecture it was trained with.
        """
        config, tensors = _files.read(folder)
        name = cls.__module__.rpartition(".")[2]
        if config[_files.TYPE] != name:
            raise BadInput(
                f"{folder} holds {config[_files.TYPE]!r}, not {name!r}. Use vlmtools.adapters.base.load(folder), which "
                "finds the class by itself."
            )
        part = cls(**_files.typed(cls, config["settings"]))
        part.build_for(config["places"])
        part.put(tensors)
        return part if target is None else part.attach(target)

    @classmethod
    def tiny(cls) -> Self:
        """Settings that act on the tiny host; for the tests that every part inherits."""
        return cls()

    @classmethod
    def tiny_host(cls) -> tuple[nn.Module, dict[str, Tensor]]:
        """A tiny random model that the part attaches to, and inputs of its `forward` without labels."""
        from vlmtools.adapters._tiny import llava

        return llava()

    def _begin(self, target: Any) -> tuple[nn.Module, ExitStack]:
        if self.host is not None:
            raise BadInput(
                f"{self.name} is attached to {type(self.host).__name__} already. Call detach() first, or make another."
            )
        host = host_of(target)
        if getattr(host, self._child, None) is not None:
            raise CannotAttach(f"{type(host).__name__} carries a {self.name} already. Detach that one first.")
        stack = ExitStack()
        freeze(host)
        stack.callback(thaw, host)
        return host, stack

    def _finish(self, host: nn.Module, stack: ExitStack) -> Self:
        # the host must know the part, so that optimisers, train(), to() and checkpointing reach it
        opened = host.register_forward_pre_hook(lambda *_: self.losses.start())
        stack.callback(opened.remove)
        stack.callback(host.register_forward_hook(self._close, always_call=True).remove)
        self.train(host.training)
        self._on.host = host
        stack.callback(setattr, self._on, "host", None)
        self._on.stack = stack.pop_all()
        return self

    @property
    def _child(self) -> str:
        return f"vlmtools_{self.name}"

    def _close(self, _: nn.Module, __: Any, output: Any) -> None:
        self.losses.stop()
        loss = getattr(output, "loss", None)
        if self.training and isinstance(loss, Tensor) and self.losses.values:
            output.loss = loss + self.aux_loss().to(loss)

    def _host_facts(self) -> dict[str, Any]:
        config = getattr(self.host, "config", None)
        keys = ("model_type", "_name_or_path", "_commit_hash")
        return {key.lstrip("_"): getattr(config, key, None) for key in keys}
