"""Watchers: they are shown rows that pass by, and change nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vlmtools.errors import BadInput
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import Removable, State, spread
from vlmtools.families._session import Session
from vlmtools.vlm import VLM

Wanted = Callable[[State], bool]
"""Whether a stream is to be watched."""


def opened(target: Any) -> tuple[Any, Any]:
    """The Hugging Face model of a target and its tokenizer, when known.

    Args:
        target: A `VLM` or a loaded model.

    Raises:
        BadInput: It is neither.
    """
    if isinstance(target, VLM):
        return target.model, target.tokenizer
    if not (hasattr(target, "generate") and hasattr(target, "config")):
        raise BadInput(
            f"Only a VLM or a loaded Hugging Face model can be looked into, not {type(target).__name__}. Load one with "
            "vlmtools.load(name)."
        )
    return target, None


def answer_rows(session: Session, batch: int, device: Any) -> Int[Tensor, "batch row"] | None:
    """Which rows of the current pass predict new tokens: the last one of a prompt, every one after it.

    Args:
        session: Of the model.
        batch: Rows of the batch, beams included.
        device: Where to put the answer.

    Returns:
        Row numbers within the pass; None where it does not reach the end of the prompt.
    """
    state, prompt = session.state, session.prompt
    if state.past >= prompt.length:
        return torch.arange(state.n_new, device=device).expand(batch, -1)
    last = spread(prompt.last.to(device), batch)[:, None] - state.past
    return last if bool(((last >= 0) & (last < state.n_new)).all()) else None


def pick(values: Float[Tensor, "batch seq *rest"], rows: Int[Tensor, "batch row"]) -> Tensor:
    """The chosen rows of every member of a batch.

    Args:
        values: Of a pass.
        rows: Row numbers.
    """
    return values[torch.arange(len(values), device=values.device)[:, None], rows.to(values.device)]


@dataclass(frozen=True, slots=True, eq=False)
class HeadWatch:
    """Shows head outputs (batch, row, head, width), as the output projection receives them.

    Args:
        session: Of the model.
        wanted: The streams to watch.
        show: Receives the module and the rows.
    """

    session: Session
    wanted: Wanted
    show: Callable[[Attention, Tensor], object]

    def install(self) -> Iterator[Removable]:
        """One hook per attention module of the decoder."""
        for attention in self.session.anatomy.attention:
            yield Removable(attention.o_proj.register_forward_pre_hook(self._hook(attention)).remove)

    def _hook(self, attention: Attention) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        @torch.compiler.disable  # type: ignore[untyped-decorator]  # what is watched depends on data
        def see(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not is_watched(self.session, self.wanted):
                return
            rows = answer_rows(self.session, len(inputs[0]), inputs[0].device)
            if rows is not None:
                found = pick(inputs[0].detach(), rows)
                self.show(attention, rearrange(found, "b s (h d) -> b s h d", h=attention.n_heads))

        hook: Callable[[nn.Module, tuple[Any, ...]], None] = see
        return hook


@dataclass(frozen=True, slots=True, eq=False)
class HiddenWatch:
    """Shows hidden states (batch, row, width): what enters the first layer, and what leaves every layer.

    Args:
        session: Of the model.
        wanted: The streams to watch.
        show: Receives 0 for the input of the first layer, i + 1 for the output of layer i, and the rows.
    """

    session: Session
    wanted: Wanted
    show: Callable[[int, Tensor], object]

    def install(self) -> Iterator[Removable]:
        """One hook per layer and one in front."""
        layers = self.session.anatomy.layers
        yield Removable(layers[0].register_forward_pre_hook(self._before, with_kwargs=True).remove)
        for index, layer in enumerate(layers):
            yield Removable(layer.register_forward_hook(self._after(index)).remove)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _see(self, index: int, hidden: Tensor) -> None:
        if not is_watched(self.session, self.wanted):
            return
        rows = answer_rows(self.session, len(hidden), hidden.device)
        if rows is not None:
            self.show(index, pick(hidden.detach(), rows))

    def _before(self, _module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self._see(0, args[0] if args else kwargs["hidden_states"])

    def _after(self, index: int) -> Callable[[nn.Module, Any, Any], None]:
        def see(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._see(index + 1, output[0] if isinstance(output, tuple) else output)

        return see


def is_watched(session: Session, wanted: Wanted) -> bool:
    """Whether the current pass belongs to a stream that is watched and whose prompt is known.

    Args:
        session: Of the model.
        wanted: The streams to watch.
    """
    return not session.is_bare and session.state.prompt is not None and wanted(session.state)
