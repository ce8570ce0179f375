"""What a model is doing right now: which prompt, where its picture lies, prefill or answer.

One session is shared by everything that looks into or changes the same model. It is opened by the first and closed by
the last, and lives on the model itself, never in a global. It watches through forward pre-hooks on the model and its
decoder, and through an instance-level wrapper of `generate` that knows where an answer starts; no class and no
`forward` is replaced.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._cache import given_cache
from vlmtools.families._probe import Anatomy, anatomy, bare
from vlmtools.families._prompt import Prompt, Removable, State, read_prompt, spread
from vlmtools.families._refuse import refuse_chunks, refuse_compiled, refuse_later_picture, refuse_restart

PLACE = "_vlmtools_session"
"""The attribute of the model under which its session lies."""


@dataclass(slots=True, eq=False)
class Session:
    """The state of one model while anything is attached to it.

    Args:
        anatomy: Where its parts are.
        tokenizer: Knows frame tokens that the configuration does not name; may be None.
    """

    anatomy: Anatomy
    tokenizer: Any = None
    state: State = field(default_factory=State)
    is_bare: bool = False
    _users: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _on_prompt: list[Callable[[Prompt], object]] = field(default_factory=list)
    _processors: list[Callable[[Prompt], Any]] = field(default_factory=list)

    @classmethod
    def open(cls, model: Any, tokenizer: Any = None) -> "Session":
        """The session of a model, started if there is none; every `open` needs one `close`.

        Args:
            model: A loaded Hugging Face model, PEFT-wrapped or not.
            tokenizer: The model's tokenizer, when known.

        Raises:
            CannotAttach: Its attention cannot be found, or it was compiled before: its hooks would be ignored.
        """
        refuse_compiled(model)
        inner = bare(model)
        found: Session | None = inner.__dict__.get(PLACE)
        session = found or cls(anatomy(inner))
        session.tokenizer = session.tokenizer or tokenizer
        if found is None:
            session._watch(model)
        session._users += 1
        return session

    def close(self) -> None:
        """Let go; the last one to do so takes every hook off."""
        self._users -= 1
        if self._users == 0:
            self._stack.close()

    @property
    def prompt(self) -> Prompt:
        """The prompt of the current stream.

        Raises:
            BadInput: Nobody saw it: the pass did not come through the model, or its cache was filled before.
        """
        if self.state.prompt is None:
            raise BadInput(
                "The prompt of this pass is not known: the decoder was called directly, or its cache was filled before "
                "the method was attached. Call the whole model with input_ids, or generate."
            )
        return self.state.prompt

    def image_keys(self, n_rows: int, n_keys: int, device: Any = None) -> Bool[Tensor, "batch key"]:
        """Which keys of the current pass are pieces of a picture; never a generated token.

        Args:
            n_rows: Rows of the batch, beams included.
            n_keys: Keys the attention sees: fewer than positions in sliding layers, more in static caches.
            device: Where to put the answer.
        """
        return self.keys(self.prompt.image, n_rows, n_keys, device)

    def keys(
        self, chosen: Bool[Tensor, "batch seq"], n_rows: int, n_keys: int, device: Any = None
    ) -> Bool[Tensor, "row key"]:
        """Positions of the prompt as keys of the current pass.

        Args:
            chosen: One row per prompt.
            n_rows: Rows of the batch, beams included.
            n_keys: Keys the attention sees: fewer than positions in sliding layers, more in static caches.
            device: Where to put the answer.
        """
        key = (id(chosen), n_rows, n_keys, device)
        if key not in self.state.memo:  # kept together: a number of `id` may be given again
            self.state.memo[key] = chosen, self._as_keys(chosen.to(device), n_rows, n_keys)
        return self.state.memo[key][1]

    def _as_keys(self, chosen: Tensor, n_rows: int, n_keys: int) -> Tensor:
        total = self.state.past + self.state.n_new
        wide = torch.nn.functional.pad(chosen, (0, max(total, n_keys, chosen.shape[1]) - chosen.shape[1]))
        first = max(0, total - n_keys)  # sliding layers have forgotten what lies before
        return spread(wide[:, first : first + n_keys], n_rows)

    def rows_from(self, start: Int[Tensor, "batch"], n_rows: int) -> Bool[Tensor, "batch row"]:
        """Which rows of the current pass lie at or after a position of the prompt.

        Args:
            start: A position for every prompt.
            n_rows: Rows of the batch, beams included.
        """
        place = self.state.past + torch.arange(self.state.n_new, device=start.device)
        return spread(place[None] >= start[:, None], n_rows)

    def on_prompt(self, call: Callable[[Prompt], object]) -> Removable:
        """Be told of every new prompt before its first pass; side streams are not announced.

        Args:
            call: Receives the prompt.
        """
        self._on_prompt.append(call)
        return Removable(lambda: self._on_prompt.remove(call))

    def add_processor(self, make: Callable[[Prompt], Any]) -> Removable:
        """Contribute a logits processor to every `generate`, in front of the caller's own.

        Args:
            make: Makes a new processor for every call of `generate`.
        """
        self._processors.append(make)
        return Removable(lambda: self._processors.remove(make))

    @contextlib.contextmanager
    def bare(self) -> Iterator[None]:
        """Passes inside the block run as if nothing were attached, and leave no trace here."""
        before, self.is_bare = self.is_bare, True
        try:
            yield
        finally:
            self.is_bare = before

    @contextlib.contextmanager
    def stream(self, state: State) -> Iterator[State]:
        """Passes inside the block belong to another stream; what is attached works on them too.

        Args:
            state: Of that stream; keep it for its next passes.
        """
        before, self.state = self.state, state
        try:
            yield state
        finally:
            self.state = before

    def _watch(self, outer: Any) -> None:
        model = self.anatomy.model
        with contextlib.ExitStack() as stack:
            model.__dict__[PLACE] = self
            stack.callback(model.__dict__.pop, PLACE, None)
            for one in {id(outer): outer, id(model): model}.values():
                stack.callback(one.register_forward_pre_hook(self._before_model, with_kwargs=True).remove)
            decoder = self.anatomy.decoder
            stack.callback(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True).remove)
            self._wrap_generate(stack)
            self._stack = stack.pop_all()

    def _wrap_generate(self, stack: contextlib.ExitStack) -> None:
        model = self.anatomy.model
        own = model.__dict__.get("generate")
        inner = model.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            return self._generate(inner, args, kwargs)

        model.__dict__["generate"] = generate
        back = (
            (lambda: model.__dict__.update(generate=own))
            if own
            else (lambda: model.__dict__.pop("generate", None))
        )
        stack.callback(back)

    def _generate(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.is_bare or self.state.side or self.state.generating:
            return inner(*args, **kwargs)
        refuse_chunks(self.anatomy.model, kwargs)
        given = _named(args, kwargs)
        with self.stream(State(generating=True)):
            self._begin(given)
            ours = [make(self.prompt) for make in self._processors]
            if ours:
                kwargs["logits_processor"] = [*ours, *(kwargs.get("logits_processor") or [])]
            return inner(*args, **kwargs)

    def _begin(self, inputs: Mapping[str, Any]) -> None:
        """A new prompt: note it and tell everybody."""
        self.state.prompt = read_prompt(inputs, self.anatomy)
        self.state.fresh, self.state.seen = True, 0
        if not self.state.side and self.state.prompt is not None:
            for call in tuple(self._on_prompt):
                call(self.state.prompt)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_model(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.is_bare or self.state.generating:
            return
        if _past(kwargs):
            refuse_later_picture(kwargs)
            return
        given = _named(args, kwargs)
        if not (
            self.state.fresh and self.state.is_about(given)
        ):  # a wrapper and the model both report one pass
            self._begin(given)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_decoder(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.is_bare:
            return
        state = self.state
        state.past, state.n_new = _past(kwargs), _n_rows(args, kwargs)
        state.memo.clear()
        refuse_restart(state)
        known = state.fresh or state.past or (state.generating and state.prompt is not None)
        if not known or state.past > max(state.seen, state.prompt.length if state.prompt else 0):
            state.prompt = None
        state.fresh, state.seen = False, state.past + state.n_new


def _named(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(kwargs)
    first = named.pop("inputs", None) if not args else args[0]
    if first is not None and isinstance(first, Tensor) and not first.is_floating_point():
        named.setdefault("input_ids", first)
    return named


def _past(kwargs: Mapping[str, Any]) -> int:
    cache = given_cache(kwargs)
    return int(cache.get_seq_length()) if cache is not None else 0


def _n_rows(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    for given in (kwargs.get("inputs_embeds"), kwargs.get("input_ids"), *args):
        if isinstance(given, Tensor):
            return int(given.shape[1])
    return 0
