"""Answers somebody recorded: files with one answer per row, and the run folders of earlier runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.responders._by_model import Fields, Survey, gathered
from vlmtools.responders._runs import read_draws, read_stored_items
from vlmtools.responders._tables import read_table
from vlmtools.responders.items import items_from_images, read_items
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
    fields = Fields(id_field, text_field, samples_field, model_field)
    survey = Survey(fields)
    table = read_table(path, id_field, text_field, survey.see)
    survey.must_fit()
    return [
        Recorded(
            one.name, one.answers, one.samples, str(path), table.sha256, one.n_duplicates, one.n_without_text
        )
        for one in gathered(table, fields, survey.models)
    ]


def _read_run(folder: Path) -> list[Recorded]:
    run = read_draws(folder / "answers.jsonl")
    if not run.models:
        raise BadInput(
            f"The run folder {str(folder)!r} holds no answers. A run stores them in answers.jsonl as they "
            "come. Run it first, or give files of answers."
        )
    items = read_stored_items(folder / "items.jsonl")
    return [
        Recorded(name, answers, items, str(folder), run.sha256, n_damaged=run.n_damaged)
        for name, answers in run.answers().items()
    ]
