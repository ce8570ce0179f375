"""What is refused because it would go wrong in silence."""

from collections.abc import Mapping
from typing import Any

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._probe import bare
from vlmtools.families._prompt import State


def refuse_compiled(model: Any) -> None:
    """Refuse a model that was compiled: hooks added now would be ignored without a word.

    Args:
        model: The model something is about to be attached to.

    Raises:
        CannotAttach: It was compiled.
    """
    inner = bare(model)
    compiled = hasattr(model, "_orig_mod") or "_compiled_call" in inner.__dict__
    if compiled or any(getattr(part, "_compiled_call_impl", None) is not None for part in inner.modules()):
        raise CannotAttach(
            "The model was compiled already, and a compiled model ignores hooks that are added later. Attach to the "
            "model first and compile it then, or load it again and leave the compiling out."
        )


def refuse_chunks(model: Any, kwargs: Mapping[str, Any]) -> None:
    """Refuse a prompt that `generate` would read in pieces.

    Args:
        model: Whose `generate` is called.
        kwargs: What it is given.

    Raises:
        BadInput: It would.
    """
    config = kwargs.get("generation_config") or model.generation_config
    if kwargs.get("prefill_chunk_size") or getattr(config, "prefill_chunk_size", None):
        raise BadInput(
            "prefill_chunk_size cuts the prompt into pieces, and a method would take the first piece for the whole "
            "prompt. Leave prefill_chunk_size out while a method is attached."
        )


def refuse_later_picture(kwargs: Mapping[str, Any]) -> None:
    """Refuse a picture that comes after the first pass.

    Args:
        kwargs: What a pass over a filled cache is given.

    Raises:
        BadInput: There is one.
    """
    if any(name.startswith("pixel_values") and value is not None for name, value in kwargs.items()):
        raise BadInput(
            "A pass over a filled cache brings a picture. Outside generate the first pass is taken for the whole "
            "prompt: read the prompt in one pass, or call generate."
        )


def refuse_restart(state: State) -> None:
    """Refuse a pass inside `generate` that belongs to another stream.

    Args:
        state: Of the stream that is generating.

    Raises:
        BadInput: It starts anew, shorter than the prompt.
    """
    if state.generating and state.prompt and not state.past and state.n_new < state.prompt.length:
        raise BadInput(
            f"Inside generate a pass starts anew with {state.n_new} tokens where the prompt has {state.prompt.length}: "
            "a second stream, as guidance_scale runs one, would be taken for the answer. Leave it out while a method "
            "is attached."
        )


def refuse_encoded(inputs: Mapping[str, Any], name: str) -> None:
    """Refuse a prompt whose picture was encoded before: there are no pixels to change, and no tower to watch.

    Args:
        inputs: Of the prompt.
        name: Of the method that needs the picture itself.

    Raises:
        BadInput: It was.
    """
    if inputs.get("mm_encoder_outputs"):
        raise BadInput(
            f"{name} needs the picture itself, and the prompt brings it encoded already, as a token pruner hands it "
            "over. Take the pruner off, or use a method that needs no pixels, such as vhr, pai or spin."
        )
