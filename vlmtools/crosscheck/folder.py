"""The run folder of a crosscheck: where it lies, whose answers it holds, what is written at the end."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vlmtools.crosscheck.ranking import Ranking
from vlmtools.crosscheck.rounds import judge_record
from vlmtools.errors import StoreError, StoreMismatch
from vlmtools.responders.recorded import Recorded
from vlmtools.store import Store
from vlmtools.types import Json, Responder, Sample

if TYPE_CHECKING:
    from vlmtools.crosscheck.run import CrossCheck

_HERE = "\0items"
RUNS = Path("runs")
"""Where runs go that were given no folder."""


def default_folder(setting: "CrossCheck", sources: Sequence[Responder], samples: Sequence[Sample]) -> Path:
    """The same question gets the same folder, so the same line resumes.

    The name depends on the sources, the items and what is asked of models, not on how the votes are weighed: another
    weighting of the same votes belongs into the same folder.
    """
    judge = setting.judge if isinstance(setting.judge, str) else judge_record(setting, setting.judge, sources)
    parts = {
        "sources": sorted(source.name for source in sources),
        "items": _HERE,
        "mode": setting.mode,
        "judge": judge,
        "draws": asdict(setting.draws),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    before, after = text.split(json.dumps(_HERE), 1)
    digest = hashlib.sha256(before.encode())
    # One by one: as a whole, the items may be more than fits in memory.
    for place, sample in enumerate(samples):
        digest.update((", " if place else "[").encode() + json.dumps([sample.id, sample.prompt]).encode())
    digest.update((("]" if samples else "[]") + after).encode())
    return RUNS / f"crosscheck-{digest.hexdigest()[:10]}"


def open_run(folder: Path, setting: "CrossCheck", sources: Sequence[Responder]) -> Store:
    """Open the folder for writing and say in `run.json` whose answers it holds.

    A folder may gain sources and judges from run to run; it may not hold two different models under one name.

    Raises:
        StoreMismatch: A source of that name, but of another model, revision or setting, is already in the folder.
    """
    store = Store(folder)
    try:
        known = _known_sources(store)
        for source in sources:
            _same_model(folder, source, known)
            known[source.name] = _lasting(source)
        store.bind({"what": "crosscheck"}, {"sources": known, "mode": setting.mode})
    except BaseException:
        store.close()
        raise
    return store


def write_ranking(store: Store, ranking: Ranking) -> None:
    """Write `ranking.json`, whole or not at all."""
    text = json.dumps(ranking.to_json(full=True), indent=1, ensure_ascii=False)
    store.write_file("ranking.json", text + "\n")


def _known_sources(store: Store) -> dict[str, Json]:
    said = store.read_file("run.json")
    if said is None:
        return {}
    try:
        return dict(json.loads(said)["settings"]["sources"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(store.folder / 'run.json')!r} cannot be read, so nobody can tell whose answers the folder holds. "
            "The records beside it are untouched. Restore the file, or choose another --out."
        ) from error


def _lasting(source: Responder) -> Json:
    """What must stay the same; recorded answers are keyed by their text, so their file may grow."""
    identity = {"kind": "recorded"} if isinstance(source, Recorded) else source.identity()
    lasting: Json = json.loads(json.dumps(dict(identity), sort_keys=True))
    return lasting


def _same_model(folder: Path, source: Responder, known: dict[str, Json]) -> None:
    before, now = known.get(source.name), _lasting(source)
    if before is None or before == now:
        return
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    listed = "; ".join(f"{key}: stored {before.get(key)!r}, given {now.get(key)!r}" for key in changed)
    raise StoreMismatch(
        f"The run folder {str(folder)!r} already holds answers of {source.name!r} with other settings ({listed}). "
        "Answers of the two would be mixed: choose another --out."
    )
