"""Teacher-forced passes: the prompt, then the whole answer but its last token in one piece."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._cache import cache_argument
from vlmtools.families._counterfactual import for_forward
from vlmtools.families._probe import Anatomy
from vlmtools.families._prompt import Prompt, State
from vlmtools.families._session import Session
from vlmtools.media import load_image
from vlmtools.trace._watch import opened
from vlmtools.vlm import VLM

Inputs = Mapping[str, Any]


@contextmanager
def session_of(target: Any) -> Iterator[Session]:
    """The session of a target, closed at the end.

    Args:
        target: A `VLM` or a loaded model.
    """
    with ExitStack() as stack:
        session = Session.open(*opened(target))
        stack.callback(session.close)
        yield session


def forced(
    session: Session, inputs: Inputs, answer: Int[Tensor, "batch token"], state: State
) -> Float[Tensor, "batch token vocab"]:
    """Logits at every token of an answer.

    Args:
        session: Of the model.
        inputs: The prompt, padded on the left.
        answer: What follows it; at least one token.
        state: Of the stream the passes belong to.
    """
    from transformers import DynamicCache

    parts = session.anatomy
    cache = DynamicCache(config=parts.model.config.get_text_config(decoder=True))
    with session.stream(state), torch.no_grad():
        model = parts.model if _has_pixels(inputs) else text_model(parts)
        first: Tensor = model(**inputs, **cache_argument(model, cache), use_cache=True).logits[:, -1:]
        if answer.shape[1] == 1:
            return first
        model = text_model(parts)
        rest = model(
            **_following(inputs, answer[:, :-1], parts), **cache_argument(model, cache), use_cache=True
        )
        return torch.cat([first, rest.logits], 1)


def text_model(parts: Anatomy) -> Any:
    """What takes tokens without a picture.

    Args:
        parts: Of the model.
    """
    return parts.model if parts.family is None else parts.family.text_model(parts.model)


def _has_pixels(inputs: Inputs) -> bool:
    return any(name.startswith("pixel_values") for name in inputs)


def _following(inputs: Inputs, answer: Tensor, parts: Anatomy) -> dict[str, Any]:
    n_rows, n = answer.shape
    mask = inputs.get("attention_mask")
    mask = torch.ones_like(inputs["input_ids"]) if mask is None else mask
    more = dict(parts.family.step_inputs(inputs, n_rows)) if parts.family else {}
    # what one new token takes along its own axis, n of them take n times
    more = {
        name: value.repeat_interleave(n, 1) if value.shape[1] == 1 else value for name, value in more.items()
    }
    real = torch.cat([mask, torch.ones_like(answer)], 1)
    if "position_ids" in inputs:
        more["position_ids"] = inputs["position_ids"][:, -1:] + 1 + torch.arange(n, device=answer.device)
    elif parts.family is not None and not parts.family.plain_positions:
        # three equal axes, shifted by what the picture's own positions saved
        after = (real.cumsum(-1) - 1)[:, -n:] + parts.model.model.rope_deltas.to(answer.device)
        more["position_ids"] = after.expand(3, -1, -1)
    return {"input_ids": answer, "attention_mask": real, **more}


def prepared(vlm: VLM, image: Any, prompt: str) -> Inputs:
    """What the model is given for one question about one picture.

    Args:
        vlm: The model.
        image: Path, URL or opened picture.
        prompt: The question.
    """
    picture = load_image(image, allow_urls=vlm.allow_urls)
    return dict(vlm.inputs([vlm.chat(prompt, True)], [picture]))


def whole_prompt(inputs: Inputs, parts: Anatomy) -> dict[str, Any]:
    """What one pass over the prompt takes.

    Args:
        inputs: By name, padded on the left.
        parts: Of the model.

    Raises:
        BadInput: There is no `input_ids`, or the padding is on the right.
    """
    if inputs.get("input_ids") is None:
        raise BadInput(
            "The inputs hold no input_ids. Give what the processor returns for prompt and picture."
        )
    mask = inputs.get("attention_mask")
    if mask is not None and not bool(mask[:, -1].all()):
        raise BadInput(
            "The prompts are padded on the right, and an answer cannot follow padding. Tokenise with "
            "padding_side='left'."
        )
    return for_forward(inputs, parts)


def require_picture(prompt: Prompt, parts: Anatomy) -> None:
    """Refuse a prompt without picture: there is nothing to take away.

    Args:
        prompt: Of the batch.
        parts: Of the model.

    Raises:
        BadInput: It shows none.
    """
    in_text = parts.family is None or parts.family.image_in_text
    if not (prompt.has_image if in_text else prompt.inputs.get("pixel_values") is not None):
        raise BadInput("The prompt shows no picture, so nothing can be compared without it. Give an image.")


def answer_ids(answer: str | Sequence[int], tokenizer: Any, parts: Anatomy) -> list[int]:
    """An answer as tokens.

    Args:
        answer: Text, or the tokens themselves.
        tokenizer: Of the model.
        parts: Of the model.

    Raises:
        BadInput: It is empty, or holds the token that stands for a piece of a picture.
    """
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"] if isinstance(answer, str) else answer
    found = [int(one) for one in ids]
    if not found:
        raise BadInput("The answer is empty. Give at least one token, as vlm.answer(…) returns them.")
    visual = next((one for one in found if one in parts.visual_ids), None)
    if visual is not None:
        raise BadInput(
            f"The answer holds token {visual}, which stands for a piece of a picture or video and would be read as "
            "one. Take it out of the answer."
        )
    return found
