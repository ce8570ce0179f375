"""A second stream beside the answer, with a cache of its own, for methods that contrast two predictions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.families._cache import cache_argument
from vlmtools.families._counterfactual import PIXELS, without_image
from vlmtools.families._prompt import Prompt, Removable, State, read_prompt, spread
from vlmtools.families._session import Session
from vlmtools.patches.base import Inputs, Live


class SecondStream:
    """Predicts the next token of the same answer from another prompt, one token per call.

    Patches that are attached work on it too; rows follow when beams are reordered.

    Args:
        session: Of the model.
        inputs: The other prompt, one row per prompt of the batch, as one pass takes it. Without pixels it goes to
            the family's text model.
        prompt_length: Of the first stream, so that new tokens can be told apart.
    """

    def __init__(self, session: Session, inputs: Inputs, prompt_length: int) -> None:
        self.session, self.inputs, self.length = session, inputs, prompt_length
        self.state = State(read_prompt(inputs, session.anatomy), side=True, fresh=True)
        self.cache: Any = None
        self.tokens: Tensor | None = None
        self.real: Tensor | None = None

    def next_scores(self, input_ids: Int[Tensor, "row seq"]) -> Float[Tensor, "row vocab"]:
        """Scores of the next token, given the first stream's tokens so far.

        Args:
            input_ids: Prompt and answer of the first stream, as logits processors receive them.
        """
        answer = input_ids[:, self.length :] if input_ids.shape[1] >= self.length else input_ids
        with self.session.stream(self.state), torch.no_grad():
            if self.cache is None:
                scores = self._start(input_ids.shape[0])
            else:
                self._follow(answer[:, :-1])
                scores = self._step(answer[:, -1:])
        self.tokens = answer
        return scores

    def _start(self, n_rows: int) -> Tensor:
        from transformers import DynamicCache

        parts = self.session.anatomy
        self.cache = DynamicCache(config=parts.model.config.get_text_config(decoder=True))
        inputs = dict(self.inputs)
        self.real = spread(inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])), n_rows)
        model = parts.model if any(name in inputs for name in PIXELS) else self._text_model()
        many = n_rows // len(inputs["input_ids"])
        wide = {name: _repeated(value, many) for name, value in inputs.items()}
        scores: Tensor = (
            model(**wide, **cache_argument(model, self.cache), use_cache=True).logits[:, -1].float()
        )
        return scores

    def _step(self, new: Tensor) -> Tensor:
        assert self.real is not None  # noqa: S101
        self.real = torch.cat([self.real, torch.ones_like(new)], 1)
        place = (
            {} if "position_ids" not in self.inputs else {"position_ids": self.real.cumsum(-1)[:, -1:] - 1}
        )
        family = self.session.anatomy.family
        more = family.step_inputs(self.inputs, len(new)) if family else {}
        model = self._text_model()
        out = model(
            input_ids=new,
            attention_mask=self.real,
            **cache_argument(model, self.cache),
            use_cache=True,
            **place,
            **more,
        )
        scores: Tensor = out.logits[:, -1].float()
        return scores

    def _follow(self, history: Tensor) -> None:
        """Reorder the cache as the beams were reordered."""
        before = self.tokens
        if before is None or torch.equal(before, history):
            return
        rows = torch.arange(len(history), device=history.device)
        group = rows // (len(history) // len(self.inputs["input_ids"]))
        same = (before[None] == history[:, None]).all(-1) & (group[None] == group[:, None])
        order = same.long().argmax(-1)
        self.cache.reorder_cache(order)

    def _text_model(self) -> Any:
        parts = self.session.anatomy
        return parts.model if parts.family is None else parts.family.text_model(parts.model)


def _repeated(value: Any, many: int) -> Any:
    return value.repeat_interleave(many, 0) if isinstance(value, Tensor) and many > 1 else value


def contrast(
    scores: Float[Tensor, "row vocab"], other: Float[Tensor, "row vocab"], factor: float, cutoff: float
) -> Float[Tensor, "row vocab"]:
    """Move away from what another stream predicts, among the tokens that are likely anyway.

    Args:
        scores: Of the stream with the picture.
        other: Of the other stream.
        factor: 1 leaves the order of likely tokens alone.
        cutoff: Share of the largest probability below which a token is dropped, in (0, 1].
    """
    scores, other = scores.log_softmax(-1), other.log_softmax(-1)
    moved = factor * (scores - other) + other
    floor = scores.amax(-1, keepdim=True) + torch.log(torch.tensor(cutoff))
    return moved.masked_fill(scores < floor, float("-inf"))


@dataclass(frozen=True)
class Contrast:
    """Logits processor: the answer's scores changed by a second stream's.

    Args:
        stream: The second stream.
        combine: (scores, other scores) → scores.
    """

    stream: SecondStream
    combine: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        other = self.stream.next_scores(input_ids).to(scores.device)
        return self.combine(scores, other).to(scores.dtype)


@dataclass(frozen=True)
class TextContrast:
    """The contrast of PAI and PAINT with the same prompt without picture.

    Args:
        factor: 1 is neutral.
        cutoff: Share of the largest probability below which a token is dropped.
    """

    factor: float
    cutoff: float

    def install(self, live: Live) -> Removable:
        """Have every `generate` contrast with a picture-less stream.

        Args:
            live: The model.
        """

        def make(prompt: Prompt) -> Contrast:
            inputs = without_image(prompt, live.anatomy, live.session.tokenizer)
            stream = SecondStream(live.session, inputs, prompt.length)
            return Contrast(stream, lambda scores, other: contrast(scores, other, self.factor, self.cutoff))

        live.status.note("The contrast acts in generate; single passes show the boost alone.")
        return live.session.add_processor(make)
