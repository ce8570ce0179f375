"""Write a question out as the model was trained to read it, whatever form its chat template expects."""

from typing import Any


def write_chat(processor: Any, prompt: str, with_image: bool, with_video: bool = False) -> str:
    """One user turn and the start of the answer.

    Tried in this order: the processor's template with a list of parts, the tokenizer's with parts, the tokenizer's
    with plain text. A template made for another form loses the question or the picture without a word; such a text
    is not used. Without any usable template: the image token, a line break and the prompt.

    Args:
        processor: A processor, or a tokenizer for models that take text only.
        prompt: The question.
        with_image: Put a picture before the question.
        with_video: Put a video before the question, instead of a picture.
    """
    tokenizer = getattr(processor, "tokenizer", None) or processor
    sees = with_image or with_video
    token = video_token(processor) if with_video else image_token(processor)
    plain = f"{token}\n{prompt}" if sees else prompt
    shown = [{"type": "video" if with_video else "image"}] if sees else []
    parts = [*shown, {"type": "text", "text": prompt}]
    if processor is not tokenizer:
        text = _rendered(processor, parts)
        if _holds(text, prompt, parts) and (token in text or not with_video):
            return text
        text = _rendered(tokenizer, parts, strict=False)
        if _holds(text, prompt, parts) and (token in text or not sees):
            return text
    text = _rendered(tokenizer, plain)
    return text if plain.strip() in text else plain


def image_token(processor: Any) -> str:
    """What stands for a picture in a prompt."""
    return _token(processor, "image_token", "<image>")


def video_token(processor: Any) -> str:
    """What stands for a video in a prompt."""
    return _token(processor, "video_token", "<video>")


def _token(processor: Any, name: str, usual: str) -> str:
    holders = (processor, getattr(processor, "tokenizer", None))
    return next((str(found) for one in holders if (found := getattr(one, name, None))), usual)


def _rendered(writer: Any, content: Any, strict: bool = True) -> str:
    if not getattr(writer, "chat_template", None):
        return ""
    turn = [{"role": "user", "content": content}]
    try:
        return str(writer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
    except (
        Exception
    ):  # a template is a program of the checkpoint: made for text, it may raise anything for parts
        if strict:
            raise
        return ""


def _holds(text: str, prompt: str, parts: list[dict[str, str]]) -> bool:
    # a template made for text prints the list itself
    return prompt.strip() in text and str(parts) not in text
