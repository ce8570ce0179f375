"""Answers somebody recorded, matched to the items of a benchmark; every mistake is named by file, line and field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools.benchmarks._files import read_entries
from vlmtools.benchmarks.base import Benchmark, Said
from vlmtools.errors import BadInput, MissingField, VlmToolsError
from vlmtools.responders._rows import Row
from vlmtools.types import Json, Sample

_Piece = tuple[str, str | None, Mapping[str, Json]]


@dataclass(frozen=True)
class AnswersFile:
    """What a file of answers holds.

    Args:
        said: Answers by item id, in the order of the items.
        silent: Items whose answer is null: the model gave none.
        missing: Items without an entry.
        notes: What a reader of the score should know about the matching.
    """

    said: Mapping[str, Said] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_answers(
    path: Path,
    benchmark: Benchmark,
    samples: Mapping[str, Sample],
    id_field: str | None = None,
    text_field: str | None = None,
) -> AnswersFile:
    """Read a file of answers to a benchmark.

    Args:
        path: JSON lines, a JSON list or object, CSV or TSV; also `.gz`. Or a run folder with `answers.jsonl`, or a
            folder in the benchmark's official layout.
        benchmark: Knows the official layout of answer files, if there is one.
        samples: The items by id.
        id_field: Field of the id; None tries the benchmark's usual names, then the order of the lines where official
            files carry no id.
        text_field: Field of the answer; None tries the benchmark's usual names.

    Raises:
        BadInput: A value cannot be used, two entries answer one item, or an entry answers no item.
        MissingField: An entry has no id or no answer.
    """
    if path.is_dir():
        listed = benchmark.answers_in(path)
        return _of_run(path, samples) if listed is None else _of_folder(listed, samples, path)
    rows = read_entries(path)
    if id_field is None and _lacks_ids(benchmark, rows):
        return _by_order(path, rows, benchmark, samples, text_field)
    found: dict[str, tuple[Row, str | None, Mapping[str, Json]]] = {}
    for row in rows:
        for id, text, more in _pieces(row, benchmark, id_field, text_field):
            known = benchmark.known_as(id)
            _check_known(row, known, samples, path)
            _check_once(row, known, text, found)
            found[known] = (row, text, more)
    pieces = {id: (text, more) for id, (_, text, more) in found.items()}
    return _matched(pieces, samples)


def _lacks_ids(benchmark: Benchmark, rows: Sequence[Row]) -> bool:
    return (
        bool(benchmark.question_field)
        and not any(name in rows[0].fields for name in benchmark.id_fields)
        and guarded(rows[0], benchmark) is None
    )


def _by_order(
    path: Path,
    rows: Sequence[Row],
    benchmark: Benchmark,
    samples: Mapping[str, Sample],
    text_field: str | None,
) -> AnswersFile:
    """Files without ids follow the order of the questions; each line must repeat its question."""
    if len(rows) != len(samples):
        raise BadInput(
            f"{str(path)!r} has {len(rows):,} answers without ids, and there are {len(samples):,} questions in this "
            "data. Without ids, answers are matched by order, so both must agree. Name the field of the id with "
            "--id-field, or the data these answers belong to with --truth."
        )
    pieces: dict[str, tuple[str | None, Mapping[str, Json]]] = {}
    for row, sample in zip(rows, samples.values(), strict=True):
        _check_question(row, sample, benchmark)
        name = _field(row, text_field, benchmark.text_fields, "--text-field", "the answer")
        pieces[sample.id] = (_text(row, name), _others(row, name))
    note = f"{len(rows):,} answers without ids were matched to the questions by their order."
    read = _matched(pieces, samples)
    return AnswersFile(read.said, read.silent, read.missing, (*read.notes, note))


def _check_question(row: Row, sample: Sample, benchmark: Benchmark) -> None:
    asked = row.fields.get(benchmark.question_field)
    if asked is None or str(asked).strip() == str(sample.extra.get("question", sample.prompt)).strip():
        return
    raise BadInput(
        f"{row.where}: the field {benchmark.question_field!r} is {str(asked)[:80]!r}, but the question at this place "
        f"is {str(sample.extra.get('question', sample.prompt))[:80]!r}. Answers without ids are matched by order. Give "
        "the data these answers belong to, or add ids."
    )


def _pieces(row: Row, benchmark: Benchmark, id_field: str | None, text_field: str | None) -> Iterator[_Piece]:
    unpacked = None if id_field is not None else guarded(row, benchmark)
    if unpacked is not None:
        yield from unpacked
        return
    named = _field(row, id_field, benchmark.id_fields, "--id-field", "the id")
    answer = _field(row, text_field, benchmark.text_fields, "--text-field", "the answer")
    try:
        id = row.id(named)
    except (OverflowError, ValueError) as error:
        if isinstance(error, VlmToolsError):
            raise
        raise row.bad(named, row.fields[named], "An id is text or a whole number") from error
    yield id, _text(row, answer), _others(row, named, answer)


def guarded(row: Row, benchmark: Benchmark) -> Sequence[_Piece] | None:
    """What a benchmark's `unpack` finds in a row; whatever is wrong with the row is named by file and line.

    Args:
        row: An entry of an answer file.
        benchmark: Knows the official layout.

    Raises:
        BadInput: The entry is not of the layout.
    """
    try:
        unpacked = benchmark.unpack(row.fields)
        if unpacked is None:
            return None
        return [(_checked_id(id), _checked_text(text), more) for id, text, more in unpacked]
    except VlmToolsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        what = f"has no field {error}" if isinstance(error, KeyError) else f"is not of the layout ({error})"
        raise BadInput(
            f"{row.where} {what}. The fields are: {', '.join(map(str, row.fields)) or 'none'}. An answer file of "
            f"{benchmark.name} has the published layout, or one answer per line; then name its fields with --id-field "
            "and --text-field."
        ) from error


def _checked_id(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"the id {value!r} is neither text nor a whole number")
    return str(value)


def _checked_text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"the answer {str(value)[:80]!r} is no text")
    return value


def _field(row: Row, given: str | None, usual: Sequence[str], option: str, what: str) -> str:
    if given is not None:
        row.require(given, option, tuple(usual))
        return given
    name = next((name for name in usual if name in row.fields), None)
    if name is None:
        raise MissingField(
            f"{row.where} has no field for {what}: looked for {', '.join(usual)}. It has: "
            f"{', '.join(map(str, row.fields)) or 'nothing'}. Name the right one with {option}."
        )
    return name


def _text(row: Row, name: str) -> str | None:
    try:
        return row.text(name)
    except (OverflowError, ValueError) as error:
        if isinstance(error, VlmToolsError):
            raise
        raise row.bad(name, "a number of very many digits", "This field holds text") from error


def _others(row: Row, *taken: str) -> Mapping[str, Json]:
    return {name: value for name, value in row.fields.items() if name not in taken}


def _check_known(row: Row, id: str, samples: Mapping[str, Sample], path: Path) -> None:
    if id not in samples:
        first = ", ".join(map(repr, list(samples)[:3]))
        raise BadInput(
            f"{row.where}: the id {id[:80]!r} is no item of this data, which has {len(samples):,} (first: {first}). "
            f"Take the line out, name another field with --id-field, or give the data that {path.name} belongs to."
        )


def _check_once(
    row: Row, id: str, text: str | None, found: Mapping[str, tuple[Row, str | None, Mapping[str, Json]]]
) -> None:
    if id in found and found[id][1] != text:
        raise BadInput(
            f"{row.where}: the id {id[:80]!r} was answered before, differently, in {found[id][0].where}. One "
            "answer per item is scored. Remove one of the two."
        )


def _matched(
    pieces: Mapping[str, tuple[str | None, Mapping[str, Json]]], samples: Mapping[str, Sample]
) -> AnswersFile:
    said: dict[str, Said] = {}
    silent, missing = [], []
    for id in samples:
        if id not in pieces:
            missing.append(id)
            continue
        text, more = pieces[id]
        if text is None:
            silent.append(id)
        else:
            said[id] = Said(text, more)
    return AnswersFile(said, tuple(silent), tuple(missing))


def _of_folder(
    listed: Iterable[tuple[str, str | None, str]], samples: Mapping[str, Sample], path: Path
) -> AnswersFile:
    found: dict[str, tuple[Row, str | None, Mapping[str, Json]]] = {}
    for id, text, where in listed:
        row = Row(where, {})
        _check_known(row, id, samples, path)
        _check_once(row, id, text, found)
        found[id] = (row, text, {})
    return _matched({id: (text, more) for id, (_, text, more) in found.items()}, samples)


def _of_run(folder: Path, samples: Mapping[str, Sample]) -> AnswersFile:
    from vlmtools.responders.recorded import read_sources

    sources = read_sources(folder)
    if len(sources) != 1:
        names = ", ".join(source.name for source in sources) or "none"
        raise BadInput(
            f"{str(folder)!r} has answers of {len(sources)} models ({names}). Give one model's file."
        )
    answers = sources[0].answers
    strange = next((id for id in answers if id not in samples), None)
    if strange is not None:
        raise BadInput(
            f"{str(folder)!r} answers {strange!r}, which is no item of this data. Give the data it belongs to."
        )
    said = {id: Said(answers[id].text) for id in samples if id in answers}
    return AnswersFile(said, (), tuple(id for id in samples if id not in answers))
