"""Connectors: vision features in, tokens of the language model out; `base.py` is the door to it."""

import dataclasses
from abc import abstractmethod
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.adapters._host import dtype_and_device, linears, seat
from vlmtools.adapters._part import Part
from vlmtools.errors import CannotAttach


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
