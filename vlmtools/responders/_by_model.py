"""The rows of a table of answers, sorted by who answered: one pass finds the models, a second one fills the spools."""

from dataclasses import dataclass
from pathlib import Path

from vlmtools.errors import BadInput
from vlmtools.responders._rows import Row
from vlmtools.responders._spools import answers_spool, samples_spool
from vlmtools.responders._tables import Table, stem
from vlmtools.responders.items import media_of
from vlmtools.store import spool
from vlmtools.types import Answers, Sample


@dataclass(frozen=True, slots=True)
class Fields:
    """What the fields of a table of answers are called.

    Args:
        id: Which item a row answers.
        text: The answer.
        samples: Further answers.
        model: Who answered.
    """

    id: str = "id"
    text: str = "text"
    samples: str = "samples"
    model: str = "model"

    def who(self, row: Row) -> str:
        """The model that a row names.

        Raises:
            BadInput: It names none.
        """
        value = row.fields.get(self.model)
        if isinstance(value, str | int) and value != "":
            return str(value)
        raise row.bad(
            self.model,
            value,
            "The field names one model; when a file holds several, every row names its own",
        )


class Survey:
    """What a look at every row tells about a table: the models it names, and which fields are there.

    Args:
        fields: What they should be called.
    """

    def __init__(self, fields: Fields) -> None:
        self.models: set[str] = set()
        self._fields = fields
        self._first: Row | None = None
        self._lacking = {fields.samples, fields.model}
        self._wrong: BadInput | None = None

    def see(self, row: Row) -> None:
        """Look at the next row."""
        self._first = self._first or row
        if self._lacking:
            self._lacking -= row.fields.keys()
        if row.fields.get(self._fields.model):
            try:
                self.models.add(self._fields.who(row))
            except BadInput as error:
                self._wrong = self._wrong or error

    def must_fit(self) -> None:
        """After all rows: are the fields that were asked for anywhere?

        Raises:
            MissingField: No row has one of them.
            BadInput: A row names its model by something else than a name.
        """
        self._must_have(self._fields.samples, "samples", "--samples-field")
        self._must_have(self._fields.model, "model", "--model-field")
        if self._wrong is not None:
            raise self._wrong

    def _must_have(self, name: str, usual: str, option: str) -> None:
        if name != usual and name in self._lacking and self._first is not None:
            self._first.require(name, option, (usual,))


class Gathered:
    """One model's answers, and what their rows tell about the items.

    Args:
        name: Who answered.
        fields: What the fields are called.
        path: The table.
        most: Rows kept in memory.
    """

    def __init__(self, name: str, fields: Fields, path: Path, most: int | None = None) -> None:
        self.name, self._fields, self._path = name, fields, path
        self.answers = answers_spool(name, most)
        self.samples = samples_spool(most)
        self.n_duplicates = self.n_without_text = 0

    def take(self, row: Row) -> None:
        """Keep what a row says.

        Raises:
            BadInput: It cannot be used, or contradicts an earlier row.
        """
        item = row.id(self._fields.id)
        said = self._said(row, item)
        self.samples.add(item, self._sample(row, item))
        if said is None:
            self.n_without_text += 1
        elif not self.answers.add(item, said):
            self.n_duplicates += 1
            self._must_agree(row, self.answers[item], said)

    def must_say_something(self) -> None:
        """After all rows.

        Raises:
            BadInput: There is no answer.
        """
        if not self.answers:
            raise BadInput(
                f"{str(self._path)!r} has no answer of {self.name!r}: the field {self._fields.text!r} is null "
                "in every row. An answer is text, possibly empty. Check how the file was written."
            )

    def _said(self, row: Row, item: str) -> Answers | None:
        drawn, name = row.texts(self._fields.samples), self._fields.text
        text = drawn[0] if drawn and row.fields.get(name) is None else row.text(name)
        return None if text is None else Answers(item, self.name, text, drawn, row.modality())

    def _sample(self, row: Row, item: str) -> Sample:
        media = media_of(row, self._path.parent, must=False)
        return Sample(item, row.optional("prompt") or "", reference=row.optional("reference"), **media)

    def _must_agree(self, row: Row, first: Answers, second: Answers) -> None:
        if first != second:
            raise BadInput(
                f"{row.where} is a second, different answer of {first.model!r} to the item {first.id!r}. A "
                "row is one model's answer to one item. Put further answers into a list "
                f"{self._fields.samples!r}, or name the models in a field {self._fields.model!r}."
            )


def gathered(table: Table, fields: Fields, models: set[str]) -> list[Gathered]:
    """One for each model, in the order of their first rows.

    Args:
        table: The rows.
        fields: What their fields are called.
        models: Every model that is named; with fewer than two, the table is one source called like its file.

    Raises:
        BadInput: A row cannot be used; of several, one of the model that comes first.
    """
    if len(models) > 1:
        return _several(table, fields, spool.MOST // len(models))
    alone = Gathered(stem(table.path), fields, table.path)
    for row in table:
        alone.take(row)
    alone.must_say_something()
    return [alone]


def _several(table: Table, fields: Fields, most: int) -> list[Gathered]:
    found: dict[str, Gathered] = {}
    wrong: dict[str, BadInput] = {}
    for row in table:
        name = fields.who(row)
        if name not in found:
            found[name] = Gathered(name, fields, table.path, most)
        if name not in wrong:
            try:
                found[name].take(row)
            except BadInput as error:
                wrong[name] = error
    for name, one in found.items():
        if name in wrong:
            raise wrong[name]
        one.must_say_something()
    return list(found.values())
