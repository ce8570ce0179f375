"""Answers somebody recorded: files with one answer per row, and the run folders of earlier runs."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools import lines
from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row
from vlmtools.responders._tables import Table, read_table, stem
from vlmtools.responders.items import items_from_images, media_of, read_items
from vlmtools.types import Answers, Json, Reply, Request, Sample

__all__ = ["Recorded", "items_from_images", "read_items", "read_sources"]


@dataclass(frozen=True)
class Recorded:
    """One model's recorded answers; as a responder it says what is recorded and nothing else.

    Args:
        name: The file's name without extensions, or the model's when a file holds several.
        answers: By item id, in file order.
        samples: What the rows tell about the items themselves, by item id.
        path: The file or run folder.
        sha256: Of the file.
        n_duplicates: Rows that repeated an earlier row word for word.
        n_without_text: Rows whose text is null: the model gave no answer.
        n_damaged: Lines of a run folder that are no records (a killed run may leave one).
    """

    name: str = ""
    answers: Mapping[str, Answers] = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)
    path: str = ""
    sha256: str = ""
    n_duplicates: int = 0
    n_without_text: int = 0
    n_damaged: int = 0

    def identity(self) -> Mapping[str, Json]:
        """The file's content and whose answers in it; where the file lies does not matter."""
        return {"kind": "recorded", "name": self.name, "sha256": self.sha256}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Draw 0 is the recorded text, draw k the k-th recorded sample."""
        for request in requests:
            yield request, self._reply(request)

    def close(self) -> None:
        """Nothing to free."""

    def _reply(self, request: Request) -> Reply:
        said = self.answers.get(request.sample.id)
        texts = () if said is None else (said.text, *said.samples)
        if said is None or request.draw >= len(texts):
            return Reply(
                None, error=f"{self.name} has no recorded answer {request.draw} to {request.sample.id!r}"
            )
        return Reply(texts[request.draw], modality=said.modality)


def read_sources(
    path: str | Path,
    id_field: str = "id",
    text_field: str = "text",
    samples_field: str = "samples",
    model_field: str = "model",
) -> list[Recorded]:
    """Read recorded answers: one source per model.

    Args:
        path: A table (`.jsonl`, `.json`, `.csv`, `.tsv`, also `.gz`), or a run folder.
        id_field: Which item a row answers; numbers become text.
        text_field: The answer. It may be missing where there are samples: the first of them is scored then.
        samples_field: A list of further answers to the same request, used as evidence.
        model_field: Who answered, for files with several models.

    Raises:
        BadInput: The file cannot be read, or gives two answers of one model to the same item.
        MissingField: A row lacks the id or the answer.
    """
    path = Path(path)
    folder = path.parent if path.name == "answers.jsonl" and (path.parent / "run.json").is_file() else path
    if folder.is_dir():
        return _read_run(folder)
    table = read_table(path, id_field, text_field)
    _must_have(table, samples_field, "samples", "--samples-field")
    _must_have(table, model_field, "model", "--model-field")
    return _Reading(table, id_field, text_field, samples_field, model_field).sources()


def _must_have(table: Table, name: str, default: str, option: str) -> None:
    if name != default and not any(name in row.fields for row in table.rows):
        table.rows[0].require(name, option, (default,))


@dataclass(frozen=True)
class _Reading:
    """One table on its way to sources."""

    table: Table
    id_field: str
    text_field: str
    samples_field: str
    model_field: str

    def sources(self) -> list[Recorded]:
        models = {self._model(row) for row in self.table.rows if row.fields.get(self.model_field)}
        if len(models) < 2:
            return [self._source(stem(self.table.path), self.table.rows)]
        by_model: dict[str, list[Row]] = {}
        for row in self.table.rows:
            by_model.setdefault(self._model(row), []).append(row)
        return [self._source(name, rows) for name, rows in by_model.items()]

    def _model(self, row: Row) -> str:
        value = row.fields.get(self.model_field)
        if isinstance(value, str | int) and value != "":
            return str(value)
        raise row.bad(
            self.model_field,
            value,
            "The field names one model; when a file holds several, every row names its own",
        )

    def _source(self, name: str, rows: Sequence[Row]) -> Recorded:
        answers: dict[str, Answers] = {}
        samples: dict[str, Sample] = {}
        repeated = silent = 0
        for row in rows:
            item = row.id(self.id_field)
            said = self._answers(row, item, name)
            samples.setdefault(item, self._sample(row, item))
            if said is None:
                silent += 1
            elif answers.setdefault(item, said) is not said:
                repeated += 1
                self._must_agree(row, answers[item], said)
        if not answers:
            raise BadInput(
                f"{str(self.table.path)!r} has no answer of {name!r}: the field {self.text_field!r} is null "
                "in every row. An answer is text, possibly empty. Check how the file was written."
            )
        return Recorded(name, answers, samples, str(self.table.path), self.table.sha256, repeated, silent)

    def _answers(self, row: Row, item: str, name: str) -> Answers | None:
        drawn = row.texts(self.samples_field)
        text = drawn[0] if drawn and row.fields.get(self.text_field) is None else row.text(self.text_field)
        return None if text is None else Answers(item, name, text, drawn, row.modality())

    def _sample(self, row: Row, item: str) -> Sample:
        media = media_of(row, self.table.path.parent, must=False)
        return Sample(item, row.optional("prompt") or "", reference=row.optional("reference"), **media)

    def _must_agree(self, row: Row, first: Answers, second: Answers) -> None:
        if first != second:
            raise BadInput(
                f"{row.where} is a second, different answer of {first.model!r} to the item {first.id!r}. A "
                "row is one model's answer to one item. Put further answers into a list "
                f"{self.samples_field!r}, or name the models in a field {self.model_field!r}."
            )


def _read_run(folder: Path) -> list[Recorded]:
    file = folder / "answers.jsonl"
    raw = file.read_bytes() if file.is_file() else b""
    records = [lines.decode(line) for line in raw.split(b"\n") if line]
    said: dict[str, dict[str, dict[int, dict[str, Json]]]] = {}
    for record in records:
        if record is not None:
            # The same answer may be stored twice after a recorded source was corrected: the later one counts.
            said.setdefault(record["model"], {}).setdefault(record["item"], {})[record["draw"]] = record
    if not said:
        raise BadInput(
            f"The run folder {str(folder)!r} holds no answers. A run stores them in answers.jsonl as they "
            "come. Run it first, or give files of answers."
        )
    items, digest = _items_of_run(folder), hashlib.sha256(raw).hexdigest()
    return [
        Recorded(name, _drawn(name, by_item), items, str(folder), digest, n_damaged=records.count(None))
        for name, by_item in said.items()
    ]


def _drawn(name: str, by_item: Mapping[str, Mapping[int, Mapping[str, Json]]]) -> dict[str, Answers]:
    answers: dict[str, Answers] = {}
    for item, draws in by_item.items():
        texts = [draws[draw].get("text") for draw in sorted(draws) if draw > 0]
        first = draws.get(0, {})
        if first.get("text") is not None:
            drawn = tuple(text for text in texts if text is not None)
            answers[item] = Answers(item, name, first["text"], drawn, tuple(first.get("modality") or ()))
    return answers


def _items_of_run(folder: Path) -> dict[str, Sample]:
    file = folder / "items.jsonl"
    raw = file.read_bytes() if file.is_file() else b""
    found = (lines.decode(line) for line in raw.split(b"\n") if line)
    return {record["id"]: _stored_item(record) for record in found if record is not None and "id" in record}


def _stored_item(record: Mapping[str, Json]) -> Sample:
    names = ("id", "prompt", "image", "video", "audio", "text", "reference", "extra")
    return Sample(**{name: record[name] for name in names if record.get(name) is not None})
