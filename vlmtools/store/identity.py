"""What a run folder is about, and how another question is refused."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlmtools.errors import StoreError, StoreMismatch
from vlmtools.store.keys import SCHEMA, plain
from vlmtools.types import Json

_ABSENT = "not set"


def bound(
    folder: Path, said: bytes | None, identity: Mapping[str, Json], may_change: Mapping[str, Json]
) -> str:
    """The text of `run.json` for a run of these settings.

    Args:
        folder: The run folder, for messages.
        said: What `run.json` holds now; None when there is none.
        identity: Every setting that decides the records.
        may_change: Settings that do not.

    Raises:
        StoreMismatch: `run.json` tells of another identity.
        StoreError: `run.json` cannot be read.
    """
    given = plain({"schema": SCHEMA, **identity})
    stored = given if said is None else _stored(folder, said)
    different = list(differences(stored, given))
    if different:
        raise StoreMismatch(_refusal(folder, different))
    return json.dumps({"identity": given, "settings": plain(may_change)}, indent=2, sort_keys=True) + "\n"


def differences(stored: Json, given: Json, where: str = "") -> Iterator[tuple[str, str, str]]:
    """(setting, stored, given) for every setting that differs, by its dotted name."""
    if isinstance(stored, dict) and isinstance(given, dict):
        for name in sorted({*stored, *given}):
            inside = f"{where}.{name}" if where else name
            yield from differences(stored.get(name, _ABSENT), given.get(name, _ABSENT), inside)
    elif stored != given or isinstance(stored, bool) != isinstance(given, bool):
        yield where, _shown(stored), _shown(given)


def _stored(folder: Path, said: bytes) -> Json:
    try:
        return json.loads(said)["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{str(folder / 'run.json')!r} cannot be read, so nobody can tell what the run is about. The "
            "records beside it are untouched. Restore the file, or choose another --out."
        ) from error


def _shown(value: Json) -> str:
    text = value if value is _ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _refusal(folder: Path, different: list[tuple[str, str, str]]) -> str:
    listed = "\n".join(f"  {name}: given {given}, stored {stored}" for name, stored, given in different)
    return (
        f"The run folder {str(folder)!r} belongs to another run. These settings differ:\n{listed}\n"
        "Choose another --out for the new settings, or repeat the stored ones to go on with this run."
    )
