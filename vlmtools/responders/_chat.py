"""What is sent to an OpenAI-compatible server, and how its answer is read: pure functions."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vlmtools.media import data_url, prompt_text
from vlmtools.types import Json, Reply, Request

N_FIRST_TOKENS = 20
"""How many likely first tokens are asked for: the most OpenAI and vLLM give."""


class Malformed(Exception):
    """An answer that is not what the protocol promises; another try may help."""


class Refused(Exception):
    """An answer that will not get better by asking again."""


class Adapted(Exception):
    """The server does not take a field; here is the body without it."""

    def __init__(self, body: dict[str, Json]) -> None:
        super().__init__("adapted")
        self.body = body


def payload(model: str, request: Request) -> dict[str, Json]:
    """The body of a chat completion.

    Args:
        model: The name the server knows.
        request: The question; its picture is sent as it is, not resized.

    Raises:
        BadInput: The picture cannot be read.
    """
    decoding = request.decoding
    body: dict[str, Json] = {
        "model": model,
        "messages": [{"role": "user", "content": _content(request)}],
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "seed": request.seed,
    }
    if decoding.temperature > 0 and decoding.top_p < 1:
        body["top_p"] = decoding.top_p
    if request.first_token:
        body |= {"logprobs": True, "top_logprobs": N_FIRST_TOKENS}
    return body


def without(body: Mapping[str, Json], complaint: str) -> dict[str, Json] | None:
    """The body a server may take after it complained about a field, or None when nothing can be left out.

    Only fields that do not change what is asked are touched: probabilities may be missing, the seed is a
    courtesy, and the length limit has a second name.
    """
    text = complaint.lower()
    if "logprobs" in text and "logprobs" in body:
        return {key: value for key, value in body.items() if "logprobs" not in key}
    if "max_completion_tokens" in text and "max_tokens" in body:
        renamed = {"max_completion_tokens": body["max_tokens"]}
        return {key: value for key, value in body.items() if key != "max_tokens"} | renamed
    if "seed" in text and "seed" in body:
        return {key: value for key, value in body.items() if key != "seed"}
    return None


def reply(body: bytes, request: Request) -> Reply:
    """Read the server's answer.

    Args:
        body: The bytes of the HTTP answer.
        request: What was asked.

    Raises:
        Malformed: It is cut short, empty, or no chat completion at all.
        Refused: The server says that it will not answer.
    """
    answer = _json(body)
    if answer.get("error") and not answer.get("choices"):
        raise _reported(answer["error"])
    choice = _first(answer.get("choices"), "choices")
    usage: Any = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        _text(choice),
        n_prompt_tokens=_count(usage.get("prompt_tokens")),
        n_new_tokens=_count(usage.get("completion_tokens")),
        first_token=first_token(choice.get("logprobs")) if request.first_token else None,
        modality=shown(request),
        truncated=choice.get("finish_reason") == "length",
    )


def shown(request: Request) -> tuple[str, ...]:
    """The kinds of input that are sent."""
    return request.sample.modality if request.show_media else ()


def complaint(body: bytes) -> str:
    """What an error answer says, in one line."""
    text = body[:4000].decode("utf-8", "replace").strip()
    try:
        found = json.loads(body)
    except ValueError:
        return (
            "an HTML page" if text[:200].lower().lstrip().startswith(("<!doctype", "<html")) else text[:300]
        )
    error = found.get("error", found) if isinstance(found, dict) else found
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:300]


def first_token(logprobs: Any) -> dict[str, float] | None:
    """Text of likely first tokens → probability; None when the server gives none.

    Args:
        logprobs: The field of that name of a choice.
    """
    try:
        first = logprobs["content"][0]
        given = [(str(entry["token"]), float(entry["logprob"])) for entry in first.get("top_logprobs") or []]
        if not any(token == first["token"] for token, _ in given):
            given.append((str(first["token"]), float(first["logprob"])))
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        return None
    summed: dict[str, float] = {}
    for token, logprob in given:
        summed[token] = min(1.0, summed.get(token, 0.0) + math.exp(min(0.0, logprob)))
    return summed


def _content(request: Request) -> Json:
    image = request.sample.image if request.show_media else None
    text = prompt_text(request)
    if image is None:
        return text
    return [{"type": "image_url", "image_url": {"url": data_url(image)}}, {"type": "text", "text": text}]


def _json(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        what = complaint(body)
        raise Malformed(
            f"the answer is not JSON but {what[:80]!r}" if what else "the answer is empty"
        ) from None
    if not isinstance(answer, dict):
        raise Malformed(f"the answer is {type(answer).__name__}, not an object")
    return answer


def _first(choices: Any, what: str) -> dict[str, Any]:
    if not isinstance(choices, Sequence) or not choices or not isinstance(choices[0], dict):
        raise Malformed(f"the answer has no {what}")
    found: dict[str, Any] = choices[0]
    return found


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message") if isinstance(choice.get("message"), dict) else {}
    content = message.get("content") if message else None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if isinstance(content, str):
        return content.strip()
    if message and message.get("refusal"):
        return str(message["refusal"]).strip()
    reason = choice.get("finish_reason")
    if reason in ("length", "content_filter", "tool_calls"):
        hint = " (raise max_new_tokens: a reasoning model may spend all of it before it answers)"
        raise Refused(f"no content, finish_reason {reason!r}" + (hint if reason == "length" else ""))
    raise Malformed("the content is null")


def _reported(error: Any) -> Exception:
    code = error.get("code") if isinstance(error, dict) else None
    text = f"the server reports: {complaint(json.dumps({'error': error}).encode())}"
    try:
        status = int(code)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        status = 500
    return Refused(text) if 400 <= status < 500 and status not in (408, 409, 425, 429) else Malformed(text)


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
