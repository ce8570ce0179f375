"""What it costs to let models judge each other in small panels: interval width and rank error, on real captions.

    python scripts/study_evidence.py --data ../shared/data --svg docs/scale-evidence.svg
    python scripts/study_evidence.py --groups pope --limit 200 --deals 2

Reads `chair/captions/*.jsonl.gz` and `chair/coco_gt_objects.json.gz`, forms groups of files about the same images, and
ranks each group with the judge `objects`: once with every vote, then with panels of every size (`--panel N`), each
dealt anew with several seeds. For every size it prints the share of the votes that were used, the width of the 95 %
intervals (bootstrap over images), how far ranks and scores are from those with every vote, and how well the scores
follow the true CHAIR_i, which the estimators never see. Takes ten minutes on one core; docs/scale.md shows the table.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from study_latent_truth import correlation, groups, ranked, read_captions

from vlmtools.crosscheck.book import Book
from vlmtools.crosscheck.estimate import by_latent_truth, by_votes
from vlmtools.crosscheck.judges.base import Claim
from vlmtools.crosscheck.judges.objects import Objects
from vlmtools.crosscheck.pages import Pages
from vlmtools.crosscheck.panels import n_pairs, n_panels_of, together
from vlmtools.crosscheck.told import Stored
from vlmtools.crosscheck.voting import Subject, Votes, cross_calls
from vlmtools.crosscheck.weights import Scheme
from vlmtools.report._study import Column, Point, Words, small_multiples
from vlmtools.scoring.chair import load_truth
from vlmtools.stats import item_counts
from vlmtools.store.files import write_whole
from vlmtools.types import Answers, Sample

METHODS = ("em", "uniform")
METRICS = ("interval width ↓", "rank error ↓", "Spearman, truth ↑")
LEAST_FOR_EM = 3


@dataclass(frozen=True)
class Outcome:
    """One deal, or every vote.

    Args:
        width: Mean width of the 95 % intervals.
        moved: Mean distance of a rank from the rank with every vote.
        spearman: Of the scores with the true CHAIR_i.
        shift: Mean distance of a score from the score with every vote.
    """

    width: float = 0.0
    moved: float = 0.0
    spearman: float = 0.0
    shift: float = 0.0


@dataclass(frozen=True)
class Group:
    """Models that described the same images.

    Args:
        label: In the table.
        book: Their claims with every vote.
        truth: CHAIR_i of each.
    """

    label: str
    book: Book
    truth: np.ndarray


def group(
    label: str,
    said: Mapping[str, Mapping[str, list[str]]],
    names: Sequence[str],
    images: Sequence[str],
    truth: Mapping[str, frozenset[str]],
) -> Group:
    """Let every model judge every other one.

    Args:
        label: In the table.
        said: Model → image → objects mentioned.
        names: The models.
        images: The images.
        truth: Image → objects that are there.
    """
    subjects = {
        name: Subject(
            {image: _stored(name, image, said[name][image]) for image in images},
            {image: tuple(Claim(thing, 0, 0) for thing in said[name][image]) for image in images},
        )
        for name in names
    }
    judge, votes = Objects(), Votes()
    samples = {image: Sample(image) for image in images}
    pairs = list(itertools.permutations(names, 2))
    calls = [call for _, call in cross_calls(judge, subjects, samples, pairs)]
    for index, found in judge.judge([call.question for call in calls]):
        votes.add(calls[index], [vote.support for vote in found], 0)
    book = Book(tuple(images), tuple(names), tuple(names), subjects, votes)
    return Group(label, book, np.array([_chair(said[name], images, truth) for name in names]))


def _stored(name: str, image: str, things: Sequence[str]) -> Stored:
    # The judge looks for names of objects in the passage, so their list is passage enough.
    return Stored(Answers(image, name, ", ".join(things)), (f"{name}/{image}",))


def _chair(
    said: Mapping[str, list[str]], images: Sequence[str], truth: Mapping[str, frozenset[str]]
) -> float:
    made = [thing in truth[image] for image in images for thing in said[image]]
    return 1.0 - float(np.mean(made))


def dealt(book: Book, size: int, seed: int) -> Book:
    """The same run as `--panel` would have made it: votes between panels were never asked for."""
    same = together(book.targets, size, seed)
    kept = {key: votes for key, votes in book.votes.support.items() if same is None or same(*key)}
    return replace(book, votes=Votes(kept), panel=size, seed=seed)


def outcome(book: Book, method: str, counts: np.ndarray, whole: np.ndarray, truth: np.ndarray) -> Outcome:
    """Rank once.

    Args:
        book: Claims and votes.
        method: `em` or `uniform`.
        counts: Resamples of the images.
        whole: Scores with every vote.
        truth: CHAIR_i.
    """
    found = (
        by_latent_truth(Pages.of([book], "shared"), Scheme(), counts)
        if method == "em"
        else by_votes(Pages.of([book]), Scheme(), counts)
    )
    low, high = np.quantile(found.boot, (0.025, 0.975), axis=0)
    return Outcome(
        float((high - low).mean()),
        float(np.abs(ranked(found.score) - ranked(whole)).mean()),
        correlation(ranked(found.score), ranked(truth)),
        float(np.abs(found.score - whole).mean()),
    )


def sizes(n_models: int, method: str) -> list[int]:
    """Panel sizes that deal so many models differently, the smallest first; 0, everybody, is left out."""
    least = LEAST_FOR_EM if method == "em" else 2
    distinct = {n_panels_of(n_models, size): size for size in range(n_models - 1, least - 1, -1)}
    return sorted(size for n_panels, size in distinct.items() if n_panels > 1)


def studied(
    one: Group, n_deals: int, n_boot: int, done: Path
) -> Iterator[tuple[str, int, float, list[Outcome]]]:
    """(method, panel size, share of the votes, one outcome per deal); size 0 is every vote.

    Args:
        one: The models.
        n_deals: Deals of every size.
        n_boot: Resamples of the images.
        done: Folder where outcomes are kept, so that an interrupted study goes on.
    """
    counts = item_counts(len(one.book.items), n_boot, 0)
    n = len(one.book.targets)
    for method in METHODS:
        scheme = Scheme()
        every = (
            by_latent_truth(Pages.of([one.book], "shared"), scheme, counts[:1])
            if method == "em"
            else by_votes(Pages.of([one.book]), scheme, counts[:1])
        ).score
        for size in (0, *reversed(sizes(n, method))):
            outcomes = []
            for seed in range(n_deals if size else 1):
                kept = done / f"{one.label}-{len(one.book.items)}-{n_boot}-{method}-{size}-{seed}.json"
                if not kept.is_file():
                    made = outcome(dealt(one.book, size, seed), method, counts, every, one.truth)
                    write_whole(kept, json.dumps(asdict(made)).encode())
                outcomes.append(Outcome(**json.loads(kept.read_text())))
            yield method, size, n_pairs(n, size) / n_pairs(n, 0) if size else 1.0, outcomes


def values(one: Outcome) -> tuple[float, float, float, float]:
    """In the order of `METRICS`, and the shift, which is in the table only."""
    return one.width, one.moved, one.spearman, one.shift


def columns(label: str, rows: Sequence[tuple[str, int, float, list[Outcome]]]) -> list[Column]:
    """One column per metric: mean, least and most over the deals."""
    found = []
    for m, metric in enumerate(METRICS):
        curves: dict[str, list[Point]] = {}
        wholes: dict[str, float] = {}
        for method, size, share, outcomes in rows:
            each = [values(one)[m] for one in outcomes]
            if size:
                curves.setdefault(method, []).append((share, float(np.mean(each)), min(each), max(each)))
            else:
                wholes[method] = each[0]
        drawn = {name: tuple(points) for name, points in curves.items()}
        found.append(Column(label, metric, wholes[METHODS[0]], curves=drawn, wholes=wholes))
    return found


def main() -> None:
    """Print the table, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--groups", nargs="*", default=["pope", "opera"], help="beginnings of file names")
    parser.add_argument("--limit", type=int, help="images per group")
    parser.add_argument("--deals", type=int, default=10)
    parser.add_argument("--boot", type=int, default=200)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--done", type=Path, default=Path("runs/study-evidence"), help="outcomes so far")
    asked = parser.parse_args()
    said = read_captions(asked.data / "chair" / "captions")
    truth = load_truth(asked.data / "chair" / "coco_gt_objects.json.gz")
    shown: list[Column] = []
    print(
        "| models | weights | panel | votes used | interval width | rank error | Spearman with CHAIR_i | score shift |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for names, images in groups(said):
        if len(names) < 5 or not names[0].startswith(tuple(asked.groups)):
            continue
        label = f"{names[0].split('_')[0]}, {len(names)} models"
        made = group(label, said, names, images[: asked.limit], truth)
        rows = list(
            _printed(
                f"{label}, {len(made.book.items):,} images",
                studied(made, asked.deals, asked.boot, asked.done),
            )
        )
        shown += columns(label, rows)
    if asked.svg is not None:
        words = Words(
            "Interval width, rank error and agreement with the truth, by share of votes used",
            "mean over deals, with the range",
            "",
            "every vote",
            "share of the votes used",
        )
        asked.svg.write_text(small_multiples(shown, METHODS, words), encoding="utf-8")


def _printed(
    label: str, rows: Iterator[tuple[str, int, float, list[Outcome]]]
) -> Iterator[tuple[str, int, float, list[Outcome]]]:
    for method, size, share, outcomes in rows:
        table = np.array([values(one) for one in outcomes])
        mean, low, high = table.mean(axis=0), table.min(axis=0), table.max(axis=0)
        cells = [
            f"{m:.3f}" if len(table) == 1 else f"{m:.3f} ({a:.3f} to {b:.3f})"
            for m, a, b in zip(mean, low, high, strict=True)
        ]
        print(f"| {label} | {method} | {size or 'all'} | {share:.0%} | {' | '.join(cells)} |", flush=True)
        yield method, size, share, outcomes


if __name__ == "__main__":
    main()
