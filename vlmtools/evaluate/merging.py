"""Answers that several processes wrote into folders of their own, brought together in the run folder.

    run/workers/0-of-2/      a run folder of worker 0: its answers, and the lock it holds while it works
    run/workers/1-of-2/      one of worker 1

Every answer is stored under what decides it, so merging twice, or after a kill, or with another number of workers,
keeps each answer once. Nothing is removed from the workers' folders.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlmtools.store import Store
from vlmtools.store.identity import bound
from vlmtools.types import Json

FOLDER = "workers"
"""Holds the workers' folders inside the run folder."""
MERGED = ("controls", "answers", "failures")
"""Kinds of record that workers write."""


def worker_folders(run: Path) -> list[Path]:
    """Folders of workers that have begun, in the order of their names.

    Args:
        run: The run folder; it need not exist.
    """
    return sorted(path.parent for path in (run / FOLDER).glob("*/run.json"))


def merge(store: Store, identity: Mapping[str, Json]) -> int:
    """Keep what the workers of this run have written so far; they may still be writing.

    Args:
        store: The open run folder.
        identity: What the run is about.

    Returns:
        How many answers were new.

    Raises:
        StoreMismatch: A worker's folder belongs to another question or model.
    """
    n_new = 0
    for folder in worker_folders(store.folder):
        bound(folder, (folder / "run.json").read_bytes(), identity, {})
        with Store(folder, read_only=True) as part:
            new = {kind: store.append_many(kind, _pairs(part, kind)) for kind in MERGED}
        n_new += new["answers"]
    return n_new


def stored_keys(run: Path) -> set[str]:
    """Keys of every answer in the run folder and in its workers' folders; changes nothing.

    Args:
        run: The run folder; it need not exist.
    """
    return {str(record["key"]) for record in _answers(run)}


def stored_texts(run: Path, keys: Mapping[str, str]) -> dict[str, str]:
    """Item → answer, of those answers that are stored; changes nothing.

    Args:
        run: The run folder; it need not exist.
        keys: Key of an answer → its item.
    """
    records = (record for record in _answers(run) if record["key"] in keys)
    return {keys[str(record["key"])]: str(record["text"]) for record in records}


def written(run: Path) -> list[float]:
    """New tokens of every stored answer of which they are known; changes nothing.

    Args:
        run: The run folder; it need not exist.
    """
    counts = (record.get("n_new_tokens") for record in _answers(run))
    return [float(count) for count in counts if count is not None]


def check_same(run: Path, identity: Mapping[str, Json]) -> None:
    """Refuse a run folder of another question, without writing to it.

    Args:
        run: The run folder; it need not exist.
        identity: What is asked of whom.

    Raises:
        StoreMismatch: It belongs to another question or model.
    """
    if (run / "run.json").is_file():
        bound(run, (run / "run.json").read_bytes(), json.loads(json.dumps(identity, default=str)), {})


def _answers(run: Path) -> Iterator[dict[str, Json]]:
    # a judge's replies are in a folder that belongs to no question, and has no run.json
    begun = any((run / name).is_file() for name in ("run.json", "answers.jsonl"))
    for place in [*([run] if begun else []), *worker_folders(run)]:
        with Store(place, read_only=True) as store:
            yield from store.read("answers")


def _pairs(part: Store, kind: str) -> Iterator[tuple[str, Mapping[str, Json]]]:
    return ((str(record["key"]), record) for record in part.read(kind))
