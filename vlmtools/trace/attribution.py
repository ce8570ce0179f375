"""Which heads an answer hangs on: switch each off and see how much less likely the answer becomes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.errors import BadInput
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import Removable, State
from vlmtools.families._session import Session
from vlmtools.trace._forced import Inputs, answer_ids, forced, prepared, session_of, whole_prompt
from vlmtools.vlm import VLM

Where = Literal["all", "answer"]
"""Every position, or only those that predict the answer."""


def head_attribution(
    vlm: VLM,
    image: Any,
    prompt: str,
    answer: str | Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    gain: float = 0.0,
    where: Where = "all",
    heads_at_once: int = 16,
) -> Float[Tensor, "token layer head"]:
    """By how much the log-probability of every token of an answer falls when one head is switched off.

    Heads lie in the batch dimension: a model with 1,024 heads takes 64 passes of a batch of 16. Positive: the head
    speaks for the token.

    The search of AD-HH zeroes one head at a time in this way; where along the prompt is an option here.

    Args:
        vlm: The model.
        image: Path, URL or opened picture.
        prompt: The question.
        answer: Its text, or better its tokens.
        layers: Numbers of the layers to try; None tries all that have attention. Rows of the result follow this order.
        gain: Factor on the head's output; 0 switches it off, 1 is neutral.
        where: Positions at which the head is scaled.
        heads_at_once: Size of the batch.

    Raises:
        BadInput: The answer is empty, or a layer has no attention.
    """
    inputs = prepared(vlm, image, prompt)
    with session_of(vlm) as session:
        ids = answer_ids(answer, vlm.tokenizer, session.anatomy)
        return attribution_of(session, inputs, ids, layers, gain, where, heads_at_once)


def attribution_of(
    session: Session,
    inputs: Inputs,
    answer: Sequence[int],
    layers: Sequence[int] | None = None,
    gain: float = 0.0,
    where: Where = "all",
    heads_at_once: int = 16,
) -> Float[Tensor, "token layer head"]:
    """The same for one prepared prompt.

    Args:
        session: Of the model.
        inputs: What the processor gives for one prompt.
        answer: Tokens.
        layers: As above.
        gain: As above.
        where: As above.
        heads_at_once: As above.
    """
    chosen = _chosen(session, layers)
    whole = whole_prompt(inputs, session.anatomy)
    pairs = [(module, head) for module in chosen for head in range(module.n_heads)]
    base = _log_probability(session, whole, answer, 1)
    fallen = []
    for start in range(0, len(pairs), heads_at_once):
        some = pairs[start : start + heads_at_once]
        with _Ablation(session, some, gain, where):
            fallen.append(base - _log_probability(session, whole, answer, len(some)))
    every = torch.cat(fallen)
    found: Tensor = rearrange(every, "(layer head) token -> token layer head", layer=len(chosen))
    return found


def _chosen(session: Session, layers: Sequence[int] | None) -> list[Attention]:
    every = session.anatomy.attention
    if layers is None:
        return list(every)
    by_layer = {one.layer: one for one in every}
    strange = [layer for layer in layers if layer not in by_layer]
    if strange:
        raise BadInput(f"There is no attention in layer {strange[0]}; it is in {sorted(by_layer)}.")
    return [by_layer[layer] for layer in layers]


def _log_probability(session: Session, inputs: Inputs, answer: Sequence[int], n: int) -> Tensor:
    """Of every token of the answer, in `n` equal rows: (row, token)."""
    wide = {
        name: torch.cat([value] * n) if isinstance(value, Tensor) else value for name, value in inputs.items()
    }
    tokens = torch.tensor([list(answer)] * n, device=wide["input_ids"].device)
    logits = forced(session, wide, tokens, State()).float()
    return logits.log_softmax(-1).gather(-1, tokens[..., None].to(logits.device))[..., 0].cpu()


@dataclass(slots=True, eq=False)
class _Ablation:
    """Row i of the batch runs with the i-th head scaled, inside the block."""

    session: Session
    pairs: Sequence[tuple[Attention, int]]
    gain: float
    where: Where
    _handles: list[Removable] = field(default_factory=list)

    def __enter__(self) -> None:
        self._handles.extend(self._install())

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _install(self) -> Iterator[Removable]:
        for module in {id(module): module for module, _ in self.pairs}.values():
            gains = torch.ones(len(self.pairs), 1, module.n_heads, 1)
            for row, (one, head) in enumerate(self.pairs):
                if one is module:
                    gains[row, 0, head] = self.gain
            yield Removable(module.o_proj.register_forward_pre_hook(self._hook(gains)).remove)

    def _hook(self, gains: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        def scale(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if self.session.is_bare or self.session.state.side:
                return None
            found = inputs[0]
            here = gains.to(found)
            if self.where == "answer":
                rows = self.session.rows_from(self.session.prompt.last.to(found.device), len(found))
                here = torch.where(rows[:, :, None, None], here, torch.ones_like(here))
            heads = rearrange(found, "b s (h d) -> b s h d", h=gains.shape[2])
            return (rearrange(heads * here, "b s h d -> b s (h d)"), *inputs[1:])

        return scale
