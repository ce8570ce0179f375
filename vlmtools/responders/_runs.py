"""The answers and items of a run folder, read record by record."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vlmtools import lines
from vlmtools.responders._spools import answers_spool, samples_spool
from vlmtools.store import spool
from vlmtools.store.spool import Spool
from vlmtools.types import Answers, Json, Sample

_FIELDS = ("id", "prompt", "image", "video", "audio", "text", "reference", "extra")


def _as_it_is(draws: Json) -> Json:
    return draws


def _draws(key: str, draws: Json) -> Json:
    return draws


@dataclass
class Draws:
    """Every stored draw, brought together by model and item, whatever order they stand in.

    Args:
        models: Who answered, in the order of their first records.
        sha256: Of the file.
        n_damaged: Lines that are no records.
        by_item: Model and item, as JSON → [draw, text, modality] of each draw.
    """

    models: dict[str, None] = field(default_factory=dict)
    sha256: str = ""
    n_damaged: int = 0
    by_item: Spool[Json] = field(default_factory=lambda: Spool(_as_it_is, _draws))

    def take(self, record: Mapping[str, Json]) -> None:
        """Keep one; of several for the same model, item and draw the last one counts.

        Args:
            record: Of answers.jsonl.
        """
        # The same answer may be stored twice after a recorded source was corrected.
        self.models[record["model"]] = None
        key = json.dumps([record["model"], record["item"]])
        new = [record["draw"], record.get("text"), record.get("modality")]
        if not self.by_item.add(key, [new]):
            others = [one for one in self.by_item[key] if one[0] != new[0]]
            self.by_item[key] = [*others, new]

    def answers(self) -> dict[str, Spool[Answers]]:
        """Model → its answers; items without a scored answer are left out."""
        most = spool.MOST // max(1, len(self.models))
        found = {model: answers_spool(model, most) for model in self.models}
        for key, draws in self.by_item.items():
            model, item = json.loads(key)
            said = _together(item, model, sorted(draws, key=lambda one: one[0]))
            if said is not None:
                found[model][item] = said
        return found


def read_draws(path: Path) -> Draws:
    """Every draw of a file `answers.jsonl`; nothing without such a file.

    Args:
        path: The file; another process may write to it meanwhile.
    """
    found, digest = Draws(), hashlib.sha256()
    for line in _lines(path):
        digest.update(line)
        if line != b"\n":
            record = lines.decode(line.removesuffix(b"\n"))
            if record is None:
                found.n_damaged += 1
            else:
                found.take(record)
    found.sha256 = digest.hexdigest()
    return found


def read_stored_items(path: Path) -> Spool[Sample]:
    """The samples of a file `items.jsonl` by id; nothing without such a file.

    Args:
        path: The file.
    """
    found = samples_spool()
    for line in _lines(path):
        record = lines.decode(line.removesuffix(b"\n"))
        if record is not None and "id" in record:
            told = {name: record[name] for name in _FIELDS if record.get(name) is not None}
            found[record["id"]] = Sample(**told)
    return found


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from file


def _together(item: str, model: str, draws: list[list[Json]]) -> Answers | None:
    scored = next((one for one in draws if one[0] == 0), None)
    if scored is None or scored[1] is None:
        return None
    drawn = tuple(text for draw, text, _ in draws if draw > 0 and text is not None)
    return Answers(item, model, scored[1], drawn, tuple(scored[2] or ()))
