"""From what a user types to responders and items: files, run folders, local models and servers on one line."""

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmtools.bundled import PREFIX
from vlmtools.errors import BadInput, UnknownName
from vlmtools.responders.items import Items
from vlmtools.responders.recorded import Recorded, read_sources
from vlmtools.types import Responder, Sample

Source = str | Path | Responder
_PLUS = re.compile(r"\+(?=[A-Za-z_])")
TABLES = (".jsonl", ".json", ".csv", ".tsv")


def is_table(path: str) -> bool:
    """Whether a name looks like a file of recorded answers."""
    return path.removesuffix(".gz").endswith(TABLES)


def resolve(
    sources: Sequence[Source],
    *,
    fields: Mapping[str, str] | None = None,
    model: Mapping[str, Any] | None = None,
) -> list[Responder]:
    """One responder per source, names unique.

    Args:
        sources: Files of recorded answers, run folders, Hugging Face ids or folders, bundled models
            (`reference:NAME`), `server:MODEL@URL`, or responders.
        fields: Names of the columns of recorded files: `id_field`, `text_field`, `samples_field`, `model_field`.
        model: Options of models and servers: `quant`, `batch_size`, `concurrency`, `dtype`, …

    Raises:
        BadInput: Nothing of the kind, or two sources of the same name.
    """
    found: list[Responder] = []
    for source in sources:
        found += _open(source, dict(fields or {}), dict(model or {}))
    return _unique(found)


def responder(spec: str, **options: Any) -> Responder:
    """One model or server by name.

    Args:
        spec: `server:MODEL@URL`, a local folder with a `config.json`, a hub id such as `org/name`, or `reference:NAME`;
            patches and pruners follow after plus signs.
        options: Passed on to the class that fits, those that it does not know are left out.
    """
    if spec.startswith("server:"):
        from vlmtools.responders.server import Server

        _refuse_changes(spec)
        return Server.parse(spec, **_known(Server, options))
    from vlmtools.responders.hf import HF

    model, changes = with_changes(spec)
    twice = [name for name in changes if options.get(name)]
    if twice:
        raise BadInput(f"{spec!r} names {twice[0]} and so do the options. Name all of them in one place.")
    return HF(model, **_known(HF, options | changes))


def with_changes(spec: str) -> tuple[str, dict[str, Any]]:
    """A model and what is put on it: `reference:clean+vhr:strength=2+hiprune:keep=0.5`.

    Args:
        spec: Name or folder of a model, then a plus sign before each patch or pruner. A folder whose own name has a
            plus sign is that folder.

    Returns:
        The model, and `patches` and `prune` as `HF` takes them; nothing where there is no plus sign.

    Raises:
        UnknownName: There is no such patch or pruner.
        BadInput: It has no such setting, or there are two pruners.
    """
    model, names = _parted(spec)
    if not names:
        return spec, {}
    from vlmtools.patches._files import parse_patches
    from vlmtools.pruning.base import TokenPruner

    changes = parse_patches(names)
    pruners = [one for one in changes if isinstance(one, TokenPruner)]
    if len(pruners) > 1:
        raise BadInput(f"{spec!r} has {len(pruners)} pruners. Tokens are chosen once: keep one of them.")
    patches = [one for one in changes if one not in pruners]
    return model, {"patches": patches} | ({"prune": pruners[0]} if pruners else {})


def _parted(spec: str) -> tuple[str, list[str]]:
    """The model, the longest that is there as a folder, and the names behind it."""
    parts = _PLUS.split(spec)
    there = (n for n in range(len(parts), 0, -1) if Path("+".join(parts[:n])).expanduser().exists())
    n_model = next(there, 1)
    return "+".join(parts[:n_model]), parts[n_model:]


def _refuse_changes(spec: str) -> None:
    from vlmtools import registry
    from vlmtools.patches._files import PACKAGES

    known = {name for package in PACKAGES for name in registry.names(package)}
    behind = [one.partition(":")[0].strip().replace("-", "_") for one in _PLUS.split(spec)[1:]]
    named = [one for one in behind if one in known]
    if named:
        raise BadInput(
            f"{spec!r} puts {named[0]} on a server's model. Patches and pruners change a model on this machine, and a "
            "server runs its own: give the model's hub id or folder, or leave them out."
        )


def _known(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are set and that this kind of source has."""
    names = inspect.signature(kind).parameters
    return {name: value for name, value in options.items() if name in names and value is not None}


def _open(source: Source, fields: dict[str, str], model: dict[str, Any]) -> Sequence[Responder]:
    if not isinstance(source, str | Path):
        return [source]
    name, path = str(source), Path(source)
    if name.startswith(("server:", PREFIX)):
        return [responder(name, **model)]
    if is_table(name) or (path / "run.json").is_file():
        return read_sources(path, **fields)
    if path.is_dir() and not (path / "config.json").is_file():
        raise BadInput(
            f"The folder {name!r} is neither a model (no config.json) nor a run (no run.json). "
            "Give a model folder, a run folder, or files such as answers/*.jsonl."
        )
    base = _parted(name)[0]
    if path.is_dir() or _is_hub_id(base) or Path(base).is_dir():
        return [responder(name, **model)]
    raise BadInput(
        f"There is no source {name!r}. A source is a file of answers (.jsonl, .csv, .tsv, .json, also .gz), a run "
        "folder, a model folder, a hub id such as org/name, a bundled model such as reference:clean, or "
        "server:MODEL@URL."
    )


def _is_hub_id(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(parts) and not name.startswith((".", "~")) and not Path(parts[0]).exists()


def _unique(found: list[Responder]) -> list[Responder]:
    twice = sorted(name for name, n in Counter(one.name for one in found).items() if n > 1)
    if twice:
        raise BadInput(
            f"Two sources are called {', '.join(map(repr, twice))}. A recorded file is called by its file name, a "
            "model by its id: rename one of the files, or give rows a `model` field."
        )
    return found


def items_of(sources: Sequence[Responder]) -> Items:
    """The items of a run without an item file: everything any recorded source answers, in the order first seen.

    Raises:
        BadInput: A model or server has nothing to be asked about, or two sources disagree on an item's media.
    """
    recorded = [one for one in sources if isinstance(one, Recorded)]
    samples = Items()
    for source in recorded:
        for given in _told(source):
            if not samples.add(given):
                known = samples.by_id[given.id]
                merged = _merged(known, given, source.name)
                if merged is not known:
                    samples.put(merged)
    live = [one.name for one in sources if not isinstance(one, Recorded)]
    if live and not any(sample.prompt or sample.media for sample in samples):
        raise BadInput(
            f"{live[0]!r} is a model, and there is nothing to ask it. Add --items items.jsonl (id, image, prompt), or "
            "--images 'photos/*.jpg' --prompt 'Describe the image.'"
        )
    return samples


def _told(source: Recorded) -> Iterator[Sample]:
    """What a source tells about each item it answers; both stand in one order as a rule, so that few are looked up."""
    beside = iter(source.samples.items())
    for item in source.answers:
        found = next((sample for id, sample in beside if id == item), None)
        yield found or source.samples.get(item, Sample(item))


def _merged(known: Sample, given: Sample, source: str) -> Sample:
    """Fill what is unknown; the same item must not show two different pictures."""
    if given == known:
        return known
    for name in ("image", "video", "audio", "text"):
        ours, theirs = getattr(known, name), getattr(given, name)
        if ours and theirs and ours != theirs:
            raise BadInput(
                f"Item {known.id!r} has {name} {theirs!r} in {source!r} but {ours!r} in an earlier source. Rows with "
                "the same id must be about the same thing: correct the file, or give --items."
            )
    filled = {
        field.name: getattr(known, field.name) or getattr(given, field.name)
        for field in dataclasses.fields(Sample)
    }
    return known if all(getattr(known, name) == value for name, value in filled.items()) else Sample(**filled)


def judge_by_name(spec: str, **options: Any) -> Any:
    """A judge from `name` or `name:key=value,key=value`.

    Args:
        spec: What the user typed after `--judge`.
        options: Fields set by other options (the judge's responder), for judges that have them.

    Raises:
        UnknownName: No such judge.
        BadInput: No such field, or a value it cannot take.
    """
    from vlmtools import registry
    from vlmtools.crosscheck.judges.base import Judge

    name, _, settings = spec.partition(":")
    kind = registry.load("vlmtools.crosscheck.judges", name, Judge)  # type: ignore[type-abstract]
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = registry.settings(kind, settings)
    values.update({key: value for key, value in options.items() if key in known and value is not None})
    return kind(**values)


def find_evidence(names: Sequence[str], models: Sequence[str]) -> tuple[str, ...]:
    """Check the names given as evidence models.

    Raises:
        UnknownName: One of them is not a source of this run.
    """
    from vlmtools.errors import suggest

    for name in names:
        if name not in models:
            raise UnknownName(f"--evidence {name!r} is no source of this run.{suggest(name, models)}")
    return tuple(names)
