"""How well does `em` rank authors of sentences? The objects they name tell; the estimators never see the truth.

    python scripts/study_latent_sentences.py --data ../shared/data --run runs/ngram --run runs/embedding
    python scripts/study_latent_sentences.py --simulate

The first reads the votes of finished runs on `chair/captions/*.jsonl.gz` and ranks all models, three and four of them,
on 200, 500 and all images; truth is CHAIR_i, the share of false objects, which is nearly that of false sentences.
The second ranks made-up models. The columns are those of study_latent_truth.py. Each takes a minute or two.
"""

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from study_latent_truth import Case, Said, case, read_captions, study

from vlmtools.crosscheck.table import ClaimTable
from vlmtools.scoring.chair import load_truth


def read_run(folder: Path) -> tuple[ClaimTable, list[str]]:
    """Sentences and their votes of a finished run, with the images in the order of the table's items."""
    votes = dict[tuple[str, str, int], dict[str, float]]()
    for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines():
        vote = json.loads(line)
        for number, support in enumerate(vote["support"]):
            votes.setdefault((vote["target"], vote["item"], number), {})[vote["evidence"]] = support
    names, images = sorted({key[0] for key in votes}), sorted({key[1] for key in votes})
    place, keys = {image: index for index, image in enumerate(images)}, sorted(votes)
    author = np.array([names.index(key[0]) for key in keys])
    support = np.array([[votes[key].get(name, np.nan) for name in names] for key in keys])
    item = np.array([place[key[1]] for key in keys])
    return ClaimTable(
        tuple(names), len(images), item, np.full(len(item), -1), (), np.eye(len(names))[author], support
    ), images


def sentence_cases(
    folder: Path, said: Said, truth: dict[str, frozenset[str]]
) -> Iterator[tuple[str, list[Case]]]:
    """Rows of the table for one run: all models, then three or four of them, all images or some."""
    (table, images), rng = read_run(folder), np.random.default_rng(0)
    for size in sorted({min(3, len(table.models)), min(4, len(table.models)), len(table.models)}):
        subsets = list(itertools.combinations(range(len(table.models)), size))
        chosen = [subsets[index] for index in rng.permutation(len(subsets))[:10]]
        for n_images in sorted({min(200, len(images)), min(500, len(images)), len(images)}):
            some = [rng.permutation(len(images))[:n_images] for _ in chosen]
            cases = [
                (part, case(said, part.models, [images[index] for index in kept], truth)[1])
                for part, kept in (
                    (_of_items(table.take(s), k), k) for s, k in zip(chosen, some, strict=True)
                )
            ]
            yield f"{folder.name}, {size} of {len(table.models)}, {n_images} images", cases


def _of_items(table: ClaimTable, items: np.ndarray) -> ClaimTable:
    keep = np.isin(table.item, items)
    mentions, support = table.mentions[keep], table.support[keep]
    return ClaimTable(
        table.models, table.n_items, table.item[keep], table.kind[keep], table.kinds, mentions, support
    )


def simulate_sentences(
    true_share: Sequence[float],
    seed: int,
    *,
    n_items: int = 200,
    gap: float = 3.0,
    topic: float = 0.0,
    levels: Sequence[float] = (),
    grain: int = 0,
) -> Case:
    """Made-up sentences, three per image and model, with support on the logit scale.

    `gap` parts true from false; `topic` is the spread of what all models support more or less in any sentence, true
    or not; `levels` are the models' base levels; with `grain` 1 or 2 the votes are 0 and 1, or 0, .5 and 1.
    """
    rng, size = np.random.default_rng(seed), len(true_share)
    author = np.tile(np.repeat(np.arange(size), 3), n_items)
    there = rng.random(len(author)) < np.array(true_share)[author]
    base = np.array(levels) if len(levels) else np.zeros(size)
    height = gap * (there - 0.5) + topic * rng.normal(size=len(author))
    support = 1 / (1 + np.exp(-(height[:, None] + base + rng.normal(size=(len(author), size)))))
    support = np.round(support * grain) / grain if grain else support
    support[np.arange(len(author)), author] = np.nan
    item, names = np.repeat(np.arange(n_items), 3 * size), tuple(f"model {m}" for m in range(size))
    table = ClaimTable(names, n_items, item, np.full(len(item), -1), (), np.eye(size)[author], support)
    return table, np.array([1 - there[author == model].mean() for model in range(size)])


def simulated_sentences() -> Iterator[tuple[str, list[Case]]]:
    """Rows of the table for sentences."""
    share, several = [0.95, 0.85, 0.7, 0.6, 0.5], range(10)
    rows: dict[str, dict[str, float | int | list[float]]] = {
        "sentences, graded": {},
        "sentences, votes of 0 and 1": {"grain": 1},
        "sentences, votes of 0, .5 and 1": {"grain": 2},
        "sentences, 20 images": {"n_items": 20},
        "sentences, weak judge": {"gap": 1.0},
        "sentences, some more typical": {"topic": 1.5},
        "sentences, evidence of other lengths": {"levels": [-2.0, -1.0, 0.0, 1.0, 2.0]},
        "sentences, all of these": {"topic": 1.5, "gap": 1.5, "levels": [-2.0, -1.0, 0.0, 1.0, 2.0]},
        "sentences, blind judge": {"gap": 0.0},
        "sentences, blind judge, some more typical": {"gap": 0.0, "topic": 1.5},
    }
    for label, setting in rows.items():
        yield label, [simulate_sentences(share, seed, **setting) for seed in several]  # type: ignore[arg-type]
    mostly = [0.98, 0.96, 0.94, 0.9, 0.85]
    yield "sentences, nearly all true", [simulate_sentences(mostly, seed) for seed in several]


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--simulate", action="store_true")
    asked = parser.parse_args()
    if asked.simulate:
        study(simulated_sentences())
    said = read_captions(asked.data / "chair" / "captions") if asked.run else {}
    for folder in asked.run:
        study(sentence_cases(folder, said, load_truth(asked.data / "chair" / "coco_gt_objects.json.gz")))


if __name__ == "__main__":
    main()
