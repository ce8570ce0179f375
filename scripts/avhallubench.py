"""Rank recorded descriptions of AVHalluBench's videos: explicit, self and RefCheck, by local judges.

    python scripts/avhallubench.py a.jsonl b.jsonl c.jsonl --data ../shared/data/avhallubench --task visual

A row is {"id": video, "text": description, "samples": [...], "model": name, "modality": "video+audio"}; samples are
needed for self, the model where a file has several, the modality where systems were given different inputs. Systems
with different inputs are ranked in lists of their own. No model is loaded unless the judge needs one.

Expected: per list a table of scores (0 to 1, lower is better) with words per description, in the order of `explicit`
(of `ref` where there are fewer than three systems), then the correlations of explicit and self with RefCheck.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vlmtools as vt
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.errors import BadInput, VlmToolsError
from vlmtools.responders.recorded import Recorded, read_sources
from vlmtools.stats import KINDS, coefficients
from vlmtools.types import Sample

MODES = ("explicit", "self", "ref")
Table = dict[str, dict[str, float]]


def groups(sources: Iterable[Recorded]) -> dict[tuple[str, ...], list[Recorded]]:
    """Sources by the inputs their rows name; a source that names several is refused."""
    found: dict[tuple[str, ...], list[Recorded]] = {}
    for source in sources:
        kinds = {said.modality for said in source.answers.values()}
        if len(kinds) > 1:
            named = " and ".join("+".join(kind) or "unknown inputs" for kind in sorted(kinds))
            raise BadInput(
                f"{source.name!r} was given {named}. A system has one kind of input: split the file, or name the same "
                "modality in every row."
            )
        found.setdefault(next(iter(kinds)), []).append(source)
    return found


def scores(
    sources: Sequence[Recorded], items: Sequence[Sample], judge: str, weights: str, folder: Path
) -> Table:
    """Mode → system → score; modes that these sources do not allow are left out."""
    table: Table = {}
    for mode in MODES:
        if mode == "explicit" and len(sources) < 2:
            continue
        if mode == "self" and not all(said.samples for one in sources for said in one.answers.values()):
            continue
        settings: dict[str, Any] = {"weights": weights if mode == "explicit" else "uniform"}
        ranking = vt.crosscheck(
            sources,
            items=items,
            mode=mode,
            judge=judge,
            unit="sentence",
            out=folder / mode,
            n_boot=200,
            **settings,
        )
        table[mode] = {row.name: row.score for row in ranking.rows}
    return table


def correlations(table: Table) -> list[tuple[str, str, float]]:
    """(mode, kind, coefficient with RefCheck), where there are three systems or more."""
    found: list[tuple[str, str, float]] = []
    names = sorted(table["ref"])
    trusted = np.array([table["ref"][name] for name in names])
    for mode in ("explicit", "self"):
        if mode in table and len(names) > 2:
            values = np.array([table[mode][name] for name in names])
            found += [(mode, kind, float(coefficients(values, trusted, kind))) for kind in KINDS]
    return found


def words(source: Recorded) -> float:
    """Words per description."""
    return float(np.mean([len(said.text.split()) for said in source.answers.values()]))


def show(kind: tuple[str, ...], sources: Sequence[Recorded], table: Table) -> None:
    """Print one list."""
    print(f"\nInput: {'+'.join(kind) or 'not named'}; {len(sources)} systems")
    first = table["explicit"] if len(sources) > 2 else table["ref"]
    print(f"{'system':<24}" + "".join(f"{mode:>10}" for mode in table) + f"{'words':>8}")
    for source in sorted(sources, key=lambda one: first[one.name]):
        cells = "".join(f"{table[mode][source.name]:>10.3f}" for mode in table)
        print(f"{source.name:<24}{cells}{words(source):>8.1f}")
    if len(sources) == 2:
        print(
            "Two systems: explicit says how far they differ and not which of them errs; the order is RefCheck's."
        )
    if "self" not in table:
        print("self is left out: not every row has samples.")
    for mode, coefficient, value in correlations(table):
        print(f"{mode} with RefCheck, {coefficient}: {100 * value:.1f}")


def main() -> int:
    """Print every list; 1 when something cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--task", choices=("visual", "audio", "audio-visual"), default="visual")
    parser.add_argument("--judge", default="ngram")
    parser.add_argument("--weights", choices=("uniform", "loo", "em"), default="uniform")
    parser.add_argument("--id-field", default="id")
    parser.add_argument("--text-field", default="text")
    asked = parser.parse_args()
    try:
        items = list(load_benchmark(f"avhallubench:task={asked.task}").samples(asked.data))
        fields = {"id_field": asked.id_field, "text_field": asked.text_field}
        sources = [one for path in asked.files for one in read_sources(path, **fields)]
        with tempfile.TemporaryDirectory() as folder:
            for number, (kind, some) in enumerate(groups(sources).items()):
                place = Path(folder) / str(number)
                show(kind, some, scores(some, items, asked.judge, asked.weights, place))
    except VlmToolsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
