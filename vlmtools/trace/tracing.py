"""Trace: note what a model does while it answers."""

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._kernel import listen
from vlmtools.families._probe import Attention
from vlmtools.families._prompt import Prompt, Removable, State, spread
from vlmtools.families._rows import Plan, Read, Rows
from vlmtools.families._session import Session
from vlmtools.trace._watch import HeadWatch, HiddenWatch, answer_rows, is_watched, opened, pick
from vlmtools.trace.record import Record, keeper, maps_gib, picture_weights


class Trace:
    """Note what a model does inside the block; logits stay bit-identical, and everything comes off at its end.

    Works under every attention kernel: rows are recomputed from queries and keys, so no attention map is ever made
    unless one is asked for. Opened inside the block of a patch it sees what the patch does. One record per prompt:
    `records`; the newest is reached directly, as in `seen.mass`. With beams, rows are the beams of that step.

    Args:
        target: A `VLM` or a loaded Hugging Face model.
        attention: How much of its attention each head gives the picture.
        picture: The attention weight of every piece of the picture.
        heads: Head outputs in front of the output projection.
        hidden: Hidden states of every layer.
        maps: Layers whose full attention maps are kept; negative numbers count from the end.
        most_gib: Refuse maps that need more memory than this.
        keep: The device that holds what was seen; None leaves it where it was computed.
    """

    def __init__(
        self,
        target: Any,
        *,
        attention: bool = True,
        picture: bool = False,
        heads: bool = False,
        hidden: bool = False,
        maps: tuple[int, ...] = (),
        most_gib: float = 2.0,
        keep: str | None = "cpu",
    ) -> None:
        self.model, self.tokenizer = opened(target)
        self.attention, self.picture, self.heads, self.hidden = attention, picture, heads, hidden
        self.most_gib, self.keep, self._wanted_maps = most_gib, keep, maps
        self.records: list[Record] = []
        self._maps: tuple[int, ...] = ()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            session = Session.open(self.model, self.tokenizer)
            stack.callback(session.close)
            self.session = session
            self._maps = self._layers(self._wanted_maps)
            stack.callback(session.on_prompt(self._begin).remove)
            self._watch(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def last(self) -> Record:
        """The newest record.

        Raises:
            BadInput: Nothing ran inside the block.
        """
        if not self.records:
            raise BadInput("Nothing was traced: call the model or vlm.answer(…) inside the block.")
        return self.records[-1]

    def __getattr__(self, name: str) -> Any:
        """Everything of the newest record."""
        if name in ("mass", "n_steps", "layers", "cross", "prompt"):
            return getattr(self.last, name)
        raise AttributeError(
            f"Trace has no attribute {name!r}. Read picture, hidden, heads(layer) and maps(layer) from .last"
        )

    def _layers(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        n = len(self.session.anatomy.layers)
        every = {one.layer for one in self.session.anatomy.attention}
        strange = [layer for layer in wanted if not (-n <= layer < n and layer % n in every)]
        if strange:
            raise BadInput(f"There is no attention in layer {strange[0]}; it is in {sorted(every)}.")
        return tuple(layer % n for layer in wanted)

    def _begin(self, prompt: Prompt) -> None:
        self._refuse_large(prompt)
        modules = self.session.anatomy.attention
        self.records.append(Record(prompt, tuple(m.layer for m in modules), tuple(m.cross for m in modules)))

    def _refuse_large(self, prompt: Prompt) -> None:
        heads, n_bytes = self.session.anatomy.n_heads, self.model.dtype.itemsize
        kept = maps_gib(len(self._maps), heads, prompt.length, prompt.n_rows, n_bytes)
        # scores, mask and weights of one layer are there at once, in float32
        need = kept + maps_gib(3 if self._maps else 0, heads, prompt.length, prompt.n_rows, 4)
        if need > self.most_gib:
            raise BadInput(
                f"Maps of {len(self._maps)} layers over {prompt.length:,} tokens need about {need:.2f} GiB, and the "
                f"limit is {self.most_gib:g}. Ask for fewer layers, take picture=True, which keeps rows only, or raise "
                "most_gib."
            )

    def _watch(self, stack: ExitStack) -> None:
        if self.attention or self.picture or self._maps:
            stack.callback(self._listen().remove)
        if self.heads:
            for handle in HeadWatch(self.session, _main, self._see_heads).install():
                stack.callback(handle.remove)
        if self.hidden:
            for handle in HiddenWatch(self.session, _main, self._see_hidden).install():
                stack.callback(handle.remove)

    def _listen(self) -> Removable:
        parts = self.session.anatomy
        wanted = [one for one in parts.attention if self.attention or self.picture or one.layer in self._maps]
        plans = [
            Plan(
                one,
                self.session,
                "all" if one.layer in self._maps else "answer",
                read=self._reader(one),
                is_on=lambda: bool(self.records) and is_watched(self.session, _main),
            )
            for one in wanted
        ]
        return listen(parts.decoder, plans)

    def _reader(self, attention: Attention) -> Read:
        index = self.session.anatomy.attention.index(attention)

        def read(rows: Rows, weights: Tensor) -> None:
            weights = weights.detach()
            if attention.layer in self._maps:
                keeper(self.last._maps, self.keep)(index, weights.to(self.model.dtype))
            where = answer_rows(self.session, len(weights), weights.device)
            if where is not None:
                self._see_rows(index, rows, pick(weights.transpose(1, 2), where - rows.start))

        return read

    def _see_rows(self, index: int, rows: Rows, weights: Tensor) -> None:
        if self.attention:
            keeper(self.last._mass, self.keep)(index, (weights * rows.image).sum(-1))
        if self.picture:
            found = picture_weights(weights, *self._places(rows, weights))
            keeper(self.last._picture, self.keep)(index, found)

    def _places(self, rows: Rows, weights: Tensor) -> tuple[list[Tensor], int]:
        """Positions of the pieces for each member of the batch, and the position of the first key."""
        batch, n_keys = weights.shape[0], weights.shape[-1]
        if rows.attention.cross:
            return [torch.arange(n_keys)] * batch, 0
        state = self.session.state
        image = spread(self.session.prompt.image, batch)
        return [one.nonzero()[:, 0] for one in image], max(0, state.past + state.n_new - n_keys)

    def _see_heads(self, attention: Attention, rows: Tensor) -> None:
        if self.records:
            keeper(self.last._heads, self.keep)(self.session.anatomy.attention.index(attention), rows)

    def _see_hidden(self, index: int, rows: Tensor) -> None:
        if self.records:
            keeper(self.last._hidden, self.keep)(index, rows)


def _main(state: State) -> bool:
    """The answer itself, not a stream beside it."""
    return not state.side
