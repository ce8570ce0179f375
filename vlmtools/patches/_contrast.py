"""Two more sources of scores to contrast with: the same prompt with another picture, and earlier layers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.errors import CannotAttach
from vlmtools.families._cache import cache_argument
from vlmtools.families._counterfactual import for_forward, positions
from vlmtools.families._probe import Anatomy
from vlmtools.families._prompt import Prompt, Removable, spread
from vlmtools.families._session import Session
from vlmtools.patches._stream import SecondStream
from vlmtools.patches.base import Live


def plausible(scores: Float[Tensor, "row vocab"], cutoff: float) -> Float[Tensor, "row vocab"]:
    """Which tokens are likely enough to be chosen at all, as 0 and minus infinity to add.

    Reference: arXiv:2210.15097, section 3.3.

    Args:
        scores: Of the model as it is.
        cutoff: Share of the largest probability below which a token is dropped, in (0, 1].
    """
    log_p = scores.log_softmax(-1)
    floor = log_p.amax(-1, keepdim=True) + torch.log(torch.tensor(cutoff, device=scores.device))
    return torch.zeros_like(log_p).masked_fill(log_p < floor, float("-inf"))


class PictureStream(SecondStream):
    """Predicts the next token of the same answer from the same prompt with other pixels.

    The prompt is read once, and its cache repeated for beams and several answers; positions are counted as `generate`
    counts them.

    Args:
        live: The model.
        prompt: Of the first stream.
        change: Takes all inputs of a pass and gives them back with other pixels.
    """

    def __init__(
        self, live: Live, prompt: Prompt, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        inputs = change(for_forward(prompt.inputs, live.anatomy))
        super().__init__(live.session, inputs, prompt.length)
        self.place = _places(live.anatomy, prompt)
        self.steps = 0

    def _start(self, n_rows: int) -> Tensor:
        from transformers import DynamicCache

        parts = self.session.anatomy
        self.cache = DynamicCache(config=parts.model.config.get_text_config(decoder=True))
        self.real = spread(self._mask(), n_rows)
        inputs = {**self.inputs, "position_ids": self.place}
        held = cache_argument(parts.model, self.cache)
        scores: Tensor = parts.model(**inputs, **held, use_cache=True).logits[:, -1]
        many = n_rows // len(scores)
        if many > 1:
            self.cache.batch_repeat_interleave(many)
        self.place = self.place[..., -1:].repeat_interleave(many, self.place.ndim - 2)
        return spread(scores.float(), n_rows)

    def _step(self, new: Tensor) -> Tensor:
        assert self.real is not None  # noqa: S101
        self.steps += 1
        self.real = torch.cat([self.real, torch.ones_like(new)], 1)
        family = self.session.anatomy.family
        more = family.step_inputs(self.inputs, len(new)) if family else {}
        model = self._text_model()
        out = model(
            input_ids=new,
            attention_mask=self.real,
            position_ids=self.place + self.steps,
            **cache_argument(model, self.cache),
            use_cache=True,
            **more,
        )
        scores: Tensor = out.logits[:, -1].float()
        return scores

    def _mask(self) -> Tensor:
        ids: Tensor = self.inputs["input_ids"]
        mask: Tensor = self.inputs.get("attention_mask", torch.ones_like(ids))
        return mask


def _places(parts: Anatomy, prompt: Prompt) -> Tensor:
    """Positions of the prompt's tokens; families with positions of their own count them themselves."""
    if parts.family is None or parts.family.plain_positions:
        return positions(prompt.real)
    count = parts.model._prepare_position_ids_for_generation
    place: Tensor = count(prompt.inputs["input_ids"], dict(prompt.inputs))
    return place


@dataclass(slots=True, eq=False)
class EarlyLayers:
    """What the output head would say after earlier layers, at the newest position of the current pass.

    Args:
        live: The model.
        layers: How many layers have been passed: 0 reads the embeddings, the number of layers would be the end.
        normed: Go through the last norm in front of the output head, as the last layer does.

    Raises:
        CannotAttach: The norm in front of the output head, or the head, cannot be found.
    """

    live: Live
    layers: Sequence[int]
    normed: bool = True
    kept: dict[int, Tensor] = field(default_factory=dict)
    norm: nn.Module = field(init=False)
    head: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.norm, self.head = final_norm(self.live.anatomy), self.live.anatomy.model.get_output_embeddings()

    def install(self) -> Removable:
        """Watch the layers of every pass of the answer's own stream."""
        stack, blocks = self.live.anatomy.layers, self.layers
        with ExitStack() as handles:
            first = stack[0].register_forward_pre_hook(self._before_first, with_kwargs=True)
            handles.callback(first.remove)
            for n in blocks:
                if n:
                    handles.callback(stack[n - 1].register_forward_hook(self._after(n)).remove)
            return Removable(handles.pop_all().close)

    def scores(self) -> Float[Tensor, "layer row vocab"]:
        """Scores of the next token after every layer that was not skipped, lowest layer first."""
        config = self.live.anatomy.model.config.get_text_config(decoder=True)
        states = [state for _, state in sorted(self.kept.items())]
        found = [self.head(self.norm(state) if self.normed else state) for state in states]
        return as_model(torch.stack([one[:, -1].float() for one in found]), config)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_first(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._ours():
            self.kept.clear()
            if 0 in self.layers:
                self._keep(0, args[0] if args else kwargs["hidden_states"])

    def _after(self, n: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._ours():
                self._keep(n, output[0] if isinstance(output, tuple) else output)

        watched: Callable[..., None] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
        return watched

    def _keep(self, n: int, state: Tensor) -> None:
        self.kept[n] = state[:, -1:].detach()

    def _ours(self) -> bool:
        session: Session = self.live.session
        return session.state.generating and not session.is_bare and not session.state.side


def as_model(scores: Tensor, config: Any) -> Tensor:
    """Scale and cap the output head's scores as the model does.

    Args:
        scores: What the head gave.
        config: Of the language model.
    """
    scores = scores * (getattr(config, "logit_scale", None) or 1.0)
    scores = scores / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return scores if not cap else torch.tanh(scores / cap) * cap


def final_norm(parts: Anatomy) -> nn.Module:
    """The norm between the last layer and the output head.

    Args:
        parts: Of the model.

    Raises:
        CannotAttach: It, or the head, cannot be found.
    """
    for module in parts.decoder.modules():
        children = dict(module.named_children())
        if any(isinstance(one, nn.ModuleList) and tuple(one) == parts.layers for one in children.values()):
            norms = [
                one for name, one in children.items() if "norm" in name and not isinstance(one, nn.ModuleList)
            ]
            if norms and parts.model.get_output_embeddings() is not None:
                last: nn.Module = norms[-1]
                return last
    raise CannotAttach(
        f"The norm between the last layer and the output head of {type(parts.model).__name__} cannot be found, so "
        "earlier layers cannot be read out. Methods on attention, such as hgai, do not need it."
    )


@dataclass(frozen=True)
class EarlyContrast:
    """Logits processor: the answer's scores changed by what earlier layers say.

    Args:
        early: The layers.
        combine: (scores, earlier scores) → scores.
    """

    early: EarlyLayers
    combine: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The changed scores."""
        if not self.early.kept:  # every layer asked for was skipped
            return scores
        with self.early.live.session.bare(), torch.no_grad():
            earlier = self.early.scores().to(scores.device)
        return self.combine(scores.float(), earlier).to(scores.dtype)
