"""How well does `em` rank models? Captions with known objects tell; the estimators never see the truth.

    python scripts/study_latent_truth.py --data ../shared/data
    python scripts/study_latent_truth.py --simulate

The first reads `chair/captions/*.jsonl.gz` and `chair/coco_gt_objects.json.gz`, forms groups of files about the same
images, and in each group ranks the whole set, subsets of 2 to 6 files, and the same on 200 images. For plain
consistency (`uniform`), textbook Dawid-Skene (`crude`) and `em` it prints, averaged over the sets of a row: how many
pairs of models are in the right order (pairs whose CHAIR_i differs by less than .005 do not count), Spearman, Pearson,
the mean absolute error of the rates and their bias. The second does the same on made-up models. Takes a minute.
For sentences see study_latent_sentences.py.
"""

import argparse
import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vlmtools.crosscheck import latent
from vlmtools.crosscheck.table import ClaimTable
from vlmtools.scoring.chair import NODES, load_truth, mentions

Estimator = Callable[[ClaimTable], np.ndarray]
Case = tuple[ClaimTable, np.ndarray]
Said = dict[str, dict[str, list[str]]]


def uniform(table: ClaimTable) -> np.ndarray:
    """Mean share of the other models that do not support a mention."""
    rates = []
    for model in range(len(table.models)):
        others = np.delete(table.support, model, axis=1)
        known = ~np.isnan(others)
        doubt = 1 - np.where(known, others, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        weight = table.mentions[:, model] * known.any(axis=1)
        rates.append(float((doubt * weight).sum() / max(weight.sum(), 1)))
    return np.array(rates)


def crude(table: ClaimTable, n_iter: int = 200) -> np.ndarray:
    """Textbook Dawid-Skene on the mentioned claims alone: one prior, independent models."""
    asked = (~np.isnan(table.support)).astype(float)
    says = np.where(asked > 0, np.nan_to_num(table.support), 0.0)
    true = says.sum(axis=1) / np.maximum(asked.sum(axis=1), 1)
    for _ in range(n_iter):
        sees, invents = (
            (true @ says + 1) / (true @ asked + 2),
            ((1 - true) @ says + 1) / ((1 - true) @ asked + 2),
        )
        odds = np.log((true.sum() + 1) / ((1 - true).sum() + 1))
        odds = odds + says @ np.log(sees / invents) + (asked - says) @ np.log((1 - sees) / (1 - invents))
        true = 1 / (1 + np.exp(-odds))
    return np.asarray(((1 - true) @ table.mentions) / np.maximum(table.mentions.sum(axis=0), 1))


def em(table: ClaimTable) -> np.ndarray:
    """What this study is about."""
    return np.asarray(latent.fit(table).rate)


METHODS: dict[str, Estimator] = {"uniform": uniform, "crude": crude, "em": em}


def read_captions(folder: Path) -> Said:
    """File name → image → objects mentioned."""
    found: Said = {}
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        found[path.name.removesuffix(".jsonl.gz")] = {
            str(row["image_id"]): [mention.node for mention in mentions(row["caption"])] for row in rows
        }
    return found


def case(said: Said, names: Sequence[str], images: Sequence[str], truth: dict[str, frozenset[str]]) -> Case:
    """Claims of some models about some images, and the true CHAIR_i of each model."""
    number, rows = {node: index for index, node in enumerate(NODES)}, dict[tuple[int, int], np.ndarray]()
    counts = np.zeros((2, len(names)))
    for m, name in enumerate(names):
        for i, image in enumerate(images):
            for node in said[name].get(image, ()):
                rows.setdefault((i, number[node]), np.zeros(len(names)))[m] += 1
                counts[:, m] += 1, node not in truth[image]
    keys = sorted(rows)
    made = np.array([rows[key] for key in keys])
    answered = np.array([[image in said[name] for name in names] for image in images])
    item = np.array([key[0] for key in keys])
    support = np.where(answered[item], (made > 0).astype(float), np.nan)
    kind = np.array([key[1] for key in keys])
    table = ClaimTable(tuple(names), len(images), item, kind, NODES, made, support)
    return table, counts[1] / counts[0]


def groups(said: Said) -> list[tuple[list[str], list[str]]]:
    """Files about exactly the same images, and these images; files without a partner are left out."""
    by_images: dict[tuple[str, ...], list[str]] = {}
    for name, captions in said.items():
        by_images.setdefault(tuple(sorted(captions)), []).append(name)
    return [(names, list(images)) for images, names in by_images.items() if len(names) > 1]


def caption_cases(said: Said, truth: dict[str, frozenset[str]]) -> Iterator[tuple[str, list[Case]]]:
    """Rows of the table: a label and the sets of models it averages over."""
    rng = np.random.default_rng(0)
    for names, images in groups(said):
        label = f"{names[0].split('_')[0]} {len(names)} x {len(images)}"
        yield label, [case(said, names, images, truth)]
        for size in range(2, min(len(names), 7)):
            subsets = list(itertools.combinations(names, size))
            chosen = [subsets[index] for index in rng.permutation(len(subsets))[:15]]
            yield f"{label}, {size} of them", [case(said, subset, images, truth) for subset in chosen]
            if len(images) > 200 and size > 2:
                some = [sorted(rng.choice(images, 200, replace=False)) for _ in chosen]
                few = [case(said, subset, part, truth) for subset, part in zip(chosen, some, strict=True)]
                yield f"{label}, {size} of them, 200 images", few


def simulate(
    sees: Sequence[float],
    invents: Sequence[float],
    seed: int,
    *,
    n_items: int = 500,
    salience: float = 1.0,
    temptation: float = 0.0,
    present: float = 0.5,
    copies: Sequence[tuple[int, int, float]] = (),
) -> Case:
    """Made-up models: six candidates per image; `copies` lists (of whom, who, with which probability)."""
    rng = np.random.default_rng(seed)
    there = rng.random((n_items, 6)) < present
    lift = rng.normal(size=there.shape) * np.where(there, salience, temptation)
    chance = np.where(there[:, :, None], sees, invents)
    chance = 1 / (1 + np.exp(-(np.log(chance / (1 - chance)) + lift[:, :, None])))
    makes = rng.random(chance.shape) < chance
    for source, copy, share in copies:
        same = rng.random(there.shape) < share
        makes[:, :, copy] = np.where(same, makes[:, :, source], makes[:, :, copy])
    item, kind = np.nonzero(makes.any(axis=2))
    made = makes[item, kind].astype(float)
    names, kinds = tuple(f"model {m}" for m in range(len(sees))), tuple(f"thing {k}" for k in range(6))
    true = (~there[item, kind] @ made) / np.maximum(made.sum(axis=0), 1)
    return ClaimTable(names, n_items, item, kind, kinds, made, made.copy()), true


def simulated_cases() -> Iterator[tuple[str, list[Case]]]:
    """Rows of the table: what holds, and what breaks, the assumptions."""
    sees, invents = [0.9, 0.8, 0.7, 0.5, 0.6], [0.3, 0.1, 0.05, 0.02, 0.2]
    several = range(10)
    yield "as assumed", [simulate(sees, invents, seed) for seed in several]
    yield "as assumed, 100 images", [simulate(sees, invents, seed, n_items=100) for seed in several]
    yield "as assumed, 30 images", [simulate(sees, invents, seed, n_items=30) for seed in several]
    yield "all equally easy to see", [simulate(sees, invents, seed, salience=0) for seed in several]
    yield "very unequally easy", [simulate(sees, invents, seed, salience=2) for seed in several]
    yield "shared hallucinations", [simulate(sees, invents, seed, temptation=1.5) for seed in several]
    yield "both", [simulate(sees, invents, seed, salience=2, temptation=2) for seed in several]
    for share in (0.3, 0.7):
        yield (
            f"{share:.0%} of the candidates there",
            [simulate(sees, invents, s, present=share) for s in several],
        )
    terse, honest = [0.9, 0.9, 0.4, 0.4, 0.4], [0.05, 0.4, 0.05, 0.05, 0.05]
    yield "terse majority", [simulate(terse, honest, seed) for seed in several]
    yield "terse majority, very unequal", [simulate(terse, honest, seed, salience=2) for seed in several]
    lone, alike = [0.95, 0.4, 0.4, 0.4, 0.4], [0.1, 0.02, 0.05, 0.1, 0.15]
    yield "one talks, four are terse", [simulate(lone, alike, seed) for seed in several]
    bad = [0.3, 0.3, 0.05, 0.02, 0.2]
    for share in (0.5, 0.8, 0.95):
        one, two = [(0, 1, share)], [(0, 1, share), (0, 2, share)]
        yield f"2 of 5 copies, {share:.0%}", [simulate(sees, bad, s, copies=one) for s in several]
        yield f"3 of 5 copies, {share:.0%}", [simulate(sees, bad, s, copies=two) for s in several]
        yield f"2 of 3 copies, {share:.0%}", [simulate(sees[:3], bad[:3], s, copies=one) for s in several]
    yield "two models, terse one better", [simulate([0.9, 0.6], [0.3, 0.1], seed) for seed in several]
    yield "two models, talkative better", [simulate([0.9, 0.5], [0.05, 0.1], seed) for seed in several]


def ranked(values: np.ndarray) -> np.ndarray:
    """Ranks with ties averaged."""
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    return np.asarray((values[:, None] > values[None, :]).sum(axis=1) + (equal - 1) / 2)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's; 0 where either is constant."""
    left, right = left - left.mean(), right - right.mean()
    size = float(np.sqrt((left @ left) * (right @ right)))
    return float(left @ right) / size if size > 0 else 0.0


def quality(estimate: np.ndarray, true: np.ndarray) -> list[float]:
    """Pairs in order, Spearman, Pearson, mean absolute error, bias."""
    pairs = [
        (a, b) for a, b in itertools.combinations(range(len(true)), 2) if abs(true[a] - true[b]) >= 0.005
    ]
    right = [(np.sign((estimate[a] - estimate[b]) * (true[a] - true[b])) + 1) / 2 for a, b in pairs]
    error = estimate - true
    order = float(np.mean(right)) if right else float("nan")
    rho, r = correlation(ranked(estimate), ranked(true)), correlation(estimate, true)
    return [order, rho, r, float(np.abs(error).mean()), float(error.mean())]


def study(rows: Iterator[tuple[str, list[Case]]]) -> dict[str, np.ndarray]:
    """Print the table; returns each method's mean over the rows."""
    print(f"| {'models':44} | sets | method  | pairs | Spearman | Pearson |  MAE | bias |")
    print("|---|---|---|---|---|---|---|---|")
    means: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    for label, cases in rows:
        for name, method in METHODS.items():
            found = np.nanmean([quality(method(table), true) for table, true in cases], axis=0)
            means[name].append(found)
            _print_row(label, len(cases), name, found)
    overall = {name: np.nanmean(found, axis=0) for name, found in means.items()}
    for name, found in overall.items():
        _print_row("mean over the rows", len(means[name]), name, found)
    return overall


def _print_row(label: str, n_sets: int, method: str, found: np.ndarray) -> None:
    order, rho, r, error, bias = found
    print(
        f"| {label:44} | {n_sets:4} | {method:7} | {order:.3f} | {rho:8.3f} | {r:7.3f} | {error:.3f} | {bias:+.3f} |"
    )


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--simulate", action="store_true")
    asked = parser.parse_args()
    if asked.simulate:
        study(simulated_cases())
        return
    truth = load_truth(asked.data / "chair" / "coco_gt_objects.json.gz")
    study(caption_cases(read_captions(asked.data / "chair" / "captions"), truth))


if __name__ == "__main__":
    main()
