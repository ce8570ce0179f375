"""Recompute every published CrossCheckGPT number that needs no model, from the published votes and tables.

    python scripts/reproduce_crosscheckgpt.py --data ../shared/data

Expected: every line ends in OK and the exit code is 0; it is 1 when one line differs. "Published" is what the authors'
scripts and tables give; intervals, ranks and per-model numbers are an independent recomputation of their votes.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vlmtools.crosscheck.arrays import VoteArrays, from_lists, read_published
from vlmtools.crosscheck.score import item_scores, resampled_scores, scores
from vlmtools.crosscheck.weights import PAPER, SELF, Scheme, weights
from vlmtools.errors import VlmToolsError
from vlmtools.stats import KINDS, coefficients, item_counts, percentile, rank_intervals
from vlmtools.stats.agreement import agreements
from vlmtools.stats.columns import read_table

Line = tuple[str, str, str]  # what it is, the value computed here, the value published
TWO, FOUR = ("mistral", "vicuna"), ("mistral", "llama2", "vicuna", "zephyr")
EIGHT = (*FOUR, "beluga", "starling", "openorca", "llama2lm")
EVIDENCE = {2: TWO, 4: FOUR, 8: EIGHT}
HALVED = ("TruthQA_MC1", "TruthQA_MC2")  # two leaderboards about one benchmark: each counts half
PUBLISHED = Path(__file__).with_name("crosscheckgpt_published.json")


def load(path: Path) -> Any:
    """A JSON file, compressed or not."""
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


def line(name: str, value: float, published: str) -> Line:
    """Rounded to as many digits as the published number has."""
    shown = f".{len(published.partition('.')[2])}f"
    return name, format(value, shown), format(float(published), shown)


def overall(metrics: dict[str, dict[str, float]], names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of the leaderboard metrics' ranks, ties by position, and of the metrics themselves."""
    columns = list(metrics[names[0]])
    share = np.array([0.5 if column in HALVED else 1.0 for column in columns])
    values = np.array([[metrics[name][column] for column in columns] for name in names])
    return values.argsort(axis=0).argsort(axis=0) @ share, values @ share


def ranking_lines(votes: VoteArrays, ref: np.ndarray, board: Any, published: Any) -> Iterator[Line]:
    """Spearman of each way of scoring with the leaderboards, and the weights behind it."""
    total, raw = overall(board, votes.targets)
    two, four, paper = (replace(PAPER, evidence=names) for names in EVIDENCE.values())
    found = {
        "SelfCheck": scores(votes, SELF),
        "RefCheck": ref,
        "explicit, 2 evidence models": scores(votes, two),
        "explicit, 2, self not added": scores(votes, replace(two, include_self="listed")),
        "explicit, 4": scores(votes, four),
        "explicit, 8": scores(votes, paper),
        "explicit, 8, equal weights": scores(votes, replace(paper, weights="uniform")),
        "explicit, 8, mean over items": scores(votes, replace(paper, average="macro")),
    }
    for name, number in published["spearman_x100"].items():
        plain = name.removesuffix(", raw metrics")
        value = coefficients(-found[plain], total if plain == name else raw)
        yield line(f"Spearman x100, {name}", 100 * float(value), number)
    for case in published["weights"]:
        scheme = replace(PAPER, evidence=EVIDENCE[case["models"]])
        trust = weights(votes, scheme)[0, votes.targets.index(case["target"])]
        for name, number in case["weights"].items():
            label = f"weight of {name} for {case['target']}, {case['models']} evidence models"
            yield line(label, trust[votes.evidence.index(name)], number)


def text_lines(folder: Path, published: Any) -> Iterator[Line]:
    """WikiBio: ten language models, 238 people."""
    votes, reference = read_published(folder / "text_explicit"), read_published(folder / "text_refcheck")
    implicit, paper = read_published(folder / "text_implicit"), replace(PAPER, evidence=EIGHT)
    board = load(folder / "text_leaderboard_metrics.json")
    yield from ranking_lines(votes, scores(reference), board, published)
    human, own, cross = (item_scores(*each).T for each in ((reference,), (votes, SELF), (votes, paper)))
    # The published implicit number uses the explicit weights and lets evidence without a file count as 0.
    listed = weights(votes, replace(paper, include_self="listed"))[0]
    trust = listed[:, [votes.evidence.index(name) for name in implicit.evidence]]
    passages = {"self": own, "explicit": cross, "implicit": np.einsum("te,ite->ti", trust, implicit.mean)}
    for name, number in published["passage_pearson"].items():
        value = coefficients(passages[name].ravel(), human.ravel(), "pearson")
        yield line(f"passage Pearson with RefCheck, {name}", float(value), number)
    total, _ = overall(board, votes.targets)
    boot = resampled_scores(votes, item_counts(votes.n_items), paper, fixed_weights=True)
    for end, number in zip(percentile(coefficients(-boot, total)), published["interval"], strict=True):
        yield line("end of the Spearman interval (weights fixed)", float(end), number)
    found = {"explicit": 100 * scores(votes, paper), "self": 100 * scores(votes, SELF)}
    found |= {"ref": 100 * scores(reference), "overall": total}
    found |= {f"r({name})": coefficients(passages[name], human, "pearson") for name in ("self", "explicit")}
    for name, cells in published["text"].items():
        place = votes.targets.index(name)
        yield from (line(f"{name}, {column}", found[column][place], cells[column]) for column in found)
        yield f"{name}, ranks (weights fixed)", "{}-{}".format(*rank_intervals(boot)[place]), cells["ranks"]


def image_lines(folder: Path, published: Any) -> Iterator[Line]:
    """MHaluBench: nine vision-language models, 200 pictures."""
    board = read_table(folder / "leaderboard" / "img2img-hallucination.csv")
    found = {row.column: row for row in agreements(board, "Human")}
    for name, cells in published["image"].items():
        for kind in KINDS:
            yield line(f"{name} and Human, {kind} x100", 100 * getattr(found[name], kind).value, cells[kind])
    means = load(folder / "mhalubench_notebook_means.json")
    for ours, column in (("selfcheck", "SelfCheckGPT"), ("crosscheck_explicit", "CrossCheck-explicit")):
        for (name, value), shown in zip(means[ours].items(), board.find(column).values, strict=True):
            yield line(f"{name}, mean {ours} x100", 100 * value, f"{shown:.2f}")
    items: dict[str, dict[str, list[float]]] = {}
    for row in load(folder / "mhalubench_avsalmonn_sentence_scores.json.gz"):
        items.setdefault(row["image_name"], {})[row["llm_gen_evidence"]] = row["scores"]
    votes = from_lists({"avsalmonn": list(items.values())})
    for name, number in published["avsalmonn"].items():
        one = Scheme(average="macro", include_self="listed", evidence=(name,))
        yield line(f"avsalmonn against {name}, mean over pictures", scores(votes, one)[0], number)


def main() -> int:
    """Print every line; 1 when a computed value differs from the published one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds crosscheck/")
    given = parser.parse_args().data
    folder = given / "crosscheck" if (given / "crosscheck").is_dir() else given
    try:
        lines = [*text_lines(folder, load(PUBLISHED)), *image_lines(folder, load(PUBLISHED))]
    except (OSError, VlmToolsError) as problem:
        print(f"{folder} does not hold the published votes: {problem}", file=sys.stderr)
        return 2
    print(f"{'':58}{'computed':>10}{'published':>11}")
    for name, value, published in lines:
        print(f"{name:58}{value:>10}{published:>11}  {'OK' if value == published else 'DIFFERS'}")
    n_off = sum(value != published for _, value, published in lines)
    print(
        f"\n{len(lines) - n_off} of {len(lines)} equal. Not checked: the audio-visual table, which is not there."
    )
    return 1 if n_off else 0


if __name__ == "__main__":
    sys.exit(main())
