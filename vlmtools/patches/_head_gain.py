"""The first primitive: scale the output of each attention head in front of the output projection.

A forward pre-hook on the projection sees and changes the heads under every attention kernel, with any cache, 4-bit
weights and offloading. It is installed once with gain 1, which is exact, and its gains change in place, so that a
model compiled afterwards follows without compiling again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vlmtools.errors import CannotAttach
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import Removable, spread
from vlmtools.families._session import Session

Watch = Callable[[Attention, Tensor], None]
"""Told the module and its head outputs (batch, rows, heads, width) before they are scaled."""


def scale_heads(
    heads_out: Float[Tensor, "batch seq heads_dim"], gain: Float[Tensor, "#batch #seq head 1"]
) -> Float[Tensor, "batch seq heads_dim"]:
    """Multiply each head by its gain, keeping the dtype.

    Args:
        heads_out: Head outputs side by side.
        gain: 1 leaves a head as it is, bit for bit.
    """
    heads = rearrange(heads_out, "b s (h d) -> b s h d", h=gain.shape[-2])
    # half precision is multiplied in float32 and rounded once, as by a Python number
    scaled: Tensor = rearrange(heads.float() * gain, "b s h d -> b s (h d)")
    return scaled.to(heads_out.dtype)


@dataclass(slots=True, eq=False)
class HeadGain:
    """The gains of one attention module while attached.

    Args:
        attention: The module.
        session: Of its model.
        watch: Shown the unscaled head outputs of every pass; None for nobody. It may set the gain of that same pass.
        answer_only: Scale the rows from the last prompt position on, and leave the earlier prompt alone.
    """

    attention: Attention
    session: Session
    watch: Watch | None = None
    answer_only: bool = False
    gain: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.gain = torch.ones(1, 1, self.attention.n_heads, 1, device=device_of(self.attention.o_proj))

    def install(self) -> RemovableHandle:
        """Put the hook on the output projection."""
        return self.attention.o_proj.register_forward_pre_hook(self._scale)

    def set(self, gain: Float[Tensor, "batch head"]) -> None:
        """Use these gains from now on; the tensor is changed in place where its shape allows.

        Args:
            gain: One row per prompt, or a single row for all; 1 is neutral.
        """
        new = gain[:, None, :, None].to(self.gain)
        if new.shape == self.gain.shape:
            self.gain.copy_(new)
        else:
            self.gain = new.clone()

    def reset(self) -> None:
        """Back to gain 1, for a batch of any size."""
        if len(self.gain) > 1:
            self.gain = self.gain[:1].clone()
        self.gain.fill_(1.0)

    def _scale(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.session.is_bare and self.watch is None:
            return None
        heads_out = inputs[0]
        if self.watch is not None:
            self._show(heads_out)
        if self.session.is_bare:
            return None
        gain = spread(self.gain.to(heads_out.device), heads_out.shape[0]) if len(self.gain) > 1 else self.gain
        if self.answer_only:
            gain = self._answer(gain.to(heads_out.device), heads_out)
        return (scale_heads(heads_out, gain.to(heads_out.device)), *inputs[1:])

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # watchers decide by data
    def _show(self, heads_out: Tensor) -> None:
        assert self.watch is not None  # noqa: S101
        self.watch(self.attention, rearrange(heads_out, "b s (h d) -> b s h d", h=self.attention.n_heads))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _answer(self, gain: Tensor, heads_out: Tensor) -> Tensor:
        prompt = self.session.prompt
        rows = self.session.rows_from(prompt.last.to(heads_out.device), heads_out.shape[0])
        return torch.where(rows[:, :, None, None], gain, torch.ones_like(gain))


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: with offloading its weights lie elsewhere, or nowhere.

    Args:
        module: A module, offloaded or not.
    """
    hook = getattr(module, "_hf_hook", None)
    execution = getattr(hook, "execution_device", None)
    if execution is not None:
        return torch.device(execution)
    here = next((one.device for one in module.parameters()), torch.device("cpu"))
    return torch.device("cpu") if here.type == "meta" else here


def fold_heads(attention: Attention, heads: Sequence[int], factor: float) -> Removable:
    """Multiply the columns of the output projection that belong to some heads: the same as a gain, at no cost.

    Args:
        attention: The module.
        heads: Whose columns.
        factor: 1 leaves the weights alone.

    Raises:
        CannotAttach: The weight is packed, or not in memory.
    """
    weight = getattr(attention.o_proj, "weight", None)
    width = attention.n_heads * attention.head_dim
    if weight is None or weight.is_meta or not weight.is_floating_point() or weight.shape[-1] != width:
        raise CannotAttach(
            f"The weight of {attention.name}'s output projection is quantised or offloaded, so nothing can be folded "
            "into it. Attach the method instead: its hook works there."
        )
    columns = torch.zeros(attention.n_heads, dtype=torch.bool)
    columns[list(heads)] = True
    columns = columns.repeat_interleave(attention.head_dim).to(weight.device)
    before = weight.data[:, columns].clone()
    weight.data[:, columns] *= factor

    def restore() -> None:
        weight.data[:, columns] = before

    return Removable(restore)
