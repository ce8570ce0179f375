"""One row of a table somebody brought: its fields, and where it stands, for messages."""

import json
import math
from dataclasses import dataclass, field

from vlmtools.errors import BadInput, MissingField
from vlmtools.types import MODALITIES, Json

_ID_NAMES = (
    "id", "image_id", "item_id", "item", "question_id", "sample_id", "qid", "uid", "video_id", "audio_id",
    "image", "video", "audio", "file_name", "filename", "name", "key", "index",
)  # fmt: skip
_TEXT_NAMES = (
    "text", "caption", "answer", "response", "output", "prediction", "pred", "generated_text", "generation",
    "content", "model_answer", "description",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        where: File and line, for messages.
        fields: Name → value.
    """

    where: str = ""
    fields: dict[str, Json] = field(default_factory=dict)

    def id(self, name: str) -> str:
        """The row's id as text: 40468 and 40468.0 are `40468`.

        Raises:
            MissingField: No such field.
            BadInput: Empty, or neither text nor a whole number.
        """
        value = self.require(name, "--id-field", _ID_NAMES)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.bad(name, value, "An id is text or a whole number")
        return str(value)

    def text(self, name: str) -> str | None:
        """The text in a field, numbers as they are written; None when it is null.

        Raises:
            MissingField: No such field.
            BadInput: A list, a dict, a boolean or NaN.
        """
        return self._as_text(name, self.require(name, "--text-field", _TEXT_NAMES))

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts in a field that holds a list (in CSV a JSON list); empty without such a field.

        Raises:
            BadInput: Not a list of texts.
        """
        value = self.fields.get(name)
        if isinstance(value, str):
            value = _json_list(value) if value.strip() else []
        if value is None:
            return ()
        if not isinstance(value, list) or any(not isinstance(text, str) for text in value):
            raise self.bad(name, self.fields[name], "Samples are a list of texts, in CSV a JSON list")
        return tuple(value)

    def optional(self, name: str) -> str | None:
        """The text in a field; None when there is no such field, or when it is null or empty."""
        return self._as_text(name, self.fields.get(name)) or None

    def modality(self) -> tuple[str, ...]:
        """The kinds of input named in the field `modality`, a list or text such as `image+audio`.

        Raises:
            BadInput: Something else than image, video, audio and text is named.
        """
        value = self.fields.get("modality") or ()
        named = value.replace("+", " ").replace(",", " ").split() if isinstance(value, str) else value
        if not isinstance(named, list | tuple) or any(kind not in MODALITIES for kind in named):
            raise self.bad("modality", value, f"A modality is one or more of {', '.join(MODALITIES)}")
        return tuple(kind for kind in MODALITIES if kind in named)

    def require(self, name: str, option: str, usual: tuple[str, ...]) -> Json:
        """The value of a field that must be there.

        Args:
            name: Its name.
            option: The option that names another field.
            usual: How such a field is usually called, for a suggestion.

        Raises:
            MissingField: It is not; the message lists those that are.
        """
        if name in self.fields:
            return self.fields[name]
        likely = next((one for one in usual if one in self.fields), None)
        advice = f"Try {option} {likely}." if likely else f"Name the right one with {option}, or add it."
        raise MissingField(
            f"{self.where} has no field {name!r}. It has: {', '.join(self.fields) or 'nothing'}. {advice}"
        )

    def bad(self, name: str, value: Json, rule: str) -> BadInput:
        """The error for a value that cannot be used."""
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
        return BadInput(
            f"{self.where}: the field {name!r} is {shown}. {rule}. Correct the row, or remove it."
        )

    def _as_text(self, name: str, value: Json) -> str | None:
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool | list | dict) or not math.isfinite(value):
            raise self.bad(name, value, "This field holds text")
        return str(value)


def _json_list(cell: str) -> Json:
    try:
        return json.loads(cell)
    except ValueError:
        return cell
