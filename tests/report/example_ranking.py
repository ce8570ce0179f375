"""An invented ranking with invented pictures: looks like a real run, measures nothing."""

import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from PIL import Image, ImageDraw

from vlmtools.crosscheck.ranking import Evidence, Pair, Ranking, Row, WorstClaim

MODELS = (
    "heron-9b-instruct",
    "otter-vision-7b",
    "finch-2b",
    "examples/kestrel-13b-chat",
    "plover-7b",
    "examples/albatross-72b",
    "wren-1b",
    "magpie-3b",
)
THINGS = ("boat", "house", "tree", "sun", "bird", "dog", "kite", "bench")
TRUE = {
    "boat": "A small white boat floats on the calm water.",
    "house": "A red house stands on the shore.",
    "tree": "Next to it grows a single tall tree.",
    "sun": "The sun is low and the sky has a warm colour.",
    "bird": "A bird crosses the sky.",
    "dog": "A dog runs along the beach.",
    "kite": "Somebody flies a kite.",
    "bench": "An empty bench faces the sea.",
}
FALSE = (
    "Two people are sitting at a table and drinking coffee.",
    "A bicycle leans against the wall on the right.",
    "In the background, a bus is waiting at a traffic light.",
    "A child holds a green umbrella.",
    "There is a clock on the tower.",
)


def example_ranking(
    folder: Path | None = None,
    *,
    n_models: int = 8,
    n_items: int = 200,
    n_worst: int = 20,
    names: Sequence[str] = (),
) -> Ranking:
    """The same ranking for the same arguments; pictures are drawn into `folder` when one is given."""
    known = [*names, *MODELS, *(f"model-{index:02d}" for index in range(1, 99))][:n_models]
    rows = _rows(known, n_items)
    return Ranking(
        rows=rows,
        agreement=_agreement(rows),
        pairs=_pairs(rows, n_items),
        worst=tuple(_claim(index, known, folder) for index in range(n_worst)),
        sensitivity=_sensitivity(rows),
        warnings=("Invented numbers: this ranking only shows what a report looks like.",),
        record={
            "command": "vlmtools crosscheck answers/*.jsonl --judge sentences --weights em --out runs/demo",
            "vlmtools": "0.1.0",
            "settings": {
                "judge": "sentences",
                "weights": "em",
                "level": 0.95,
                "n_boot": 2000,
                "seed": 0,
                "beta": 1.0,
            },
            "versions": {"python": "3.11.9", "numpy": "2.2.6"},
            "sources": [{"name": name, "file": f"answers/{index}.jsonl"} for index, name in enumerate(known)],
            "counts": {"items": n_items, "votes": n_items * len(known) ** 2 * 4},
        },
    )


def _rows(names: Sequence[str], n_items: int) -> tuple[Row, ...]:
    chance = random.Random(7)
    half = 0.35 / n_items**0.5
    score, group, rows = 0.18, 0, list[Row]()
    for rank, name in enumerate(names, start=1):
        step = chance.choice((0.006, 0.009, 0.05, 0.07))
        group += step > 0.03
        score = min(score + step * 8 / max(8, len(names)), 0.95)
        claims = round(chance.uniform(3.4, 7.9), 2) if rank != 3 else 1.9
        rows.append(
            Row(
                rank=rank,
                name=name,
                score=score,
                ci=(max(0.0, score - half), min(1.0, score + 1.1 * half)),
                rank_ci=(max(1, rank - chance.randint(0, 1)), min(len(names), rank + chance.randint(0, 2))),
                rank_loo=(max(1, rank - 1), rank),
                tie_group=group,
                n_items=n_items,
                n_claims=int(claims * n_items),
                claims_per_item=claims,
                words_per_item=round(claims * 9.3, 1),
                unparsed=0.032 if rank == 5 else 0.0,
                weight=1 / len(names),
                modality=("image",),
                extra={"sensitivity": round(chance.uniform(0.6, 0.9), 3)},
            )
        )
    return tuple(rows)


def _agreement(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    chance = random.Random(11)
    return {
        target.name: {
            other.name: None if other is target else 1 - target.score + chance.uniform(-0.12, 0.12)
            for other in rows
        }
        for target in rows
    }


def _pairs(rows: Sequence[Row], n_items: int) -> tuple[Pair, ...]:
    wide = 0.45 / n_items**0.5
    pairs = []
    for a, b in combinations(rows, 2):
        gap = b.score - a.score
        p = min(1.0, 2.0 ** (-12 * gap / wide))
        tied = a.tie_group == b.tie_group
        pairs.append(
            Pair(
                a.name,
                b.name,
                gap,
                (gap - wide, gap + wide),
                p,
                max(0.06, p) if tied else min(0.04, 4 * p),
                1.4 * wide,
            )
        )
    return tuple(pairs)


def _sensitivity(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    base = {row.name: row.rank for row in rows}
    swapped = dict(base)
    for a, b in zip(rows[::3], rows[1::3], strict=False):
        swapped[a.name], swapped[b.name] = b.rank, a.rank
    return {"weights = uniform": base, "β = 0": swapped, "β = 10": base, "without the self evidence": swapped}


def _claim(index: int, names: Sequence[str], folder: Path | None) -> WorstClaim:
    chance = random.Random(100 + index)
    there = chance.sample(THINGS, 4)
    wrong = FALSE[index % len(FALSE)]
    sentences = [TRUE[thing] for thing in there]
    sentences.insert(chance.randint(1, 3), wrong)
    answer = " ".join(sentences)
    starts = [answer.index(sentence) for sentence in sentences]
    scores = [0.97 - index * 0.011 if one == wrong else chance.uniform(0.0, 0.62) for one in sentences]
    spans = tuple((s, s + len(one), score) for s, one, score in zip(starts, sentences, scores, strict=True))
    start, end, score = next(span for span in spans if answer[span[0] : span[1]] == wrong)
    model = names[(index * 3 + 1) % len(names)]
    others = [name for name in names if name != model]
    said = [" ".join(TRUE[thing] for thing in chance.sample(there, 3)) for _ in others]
    supports = [round(chance.uniform(0.0, 0.12), 3) for _ in others]
    evidence = tuple(Evidence(*one) for one in zip(others, said, supports, strict=True))
    where = (
        draw(folder / f"scene-{index:02d}.png", there, index) if folder else f"scenes/scene-{index:02d}.png"
    )
    return WorstClaim(
        item=f"scene-{index:02d}",
        model=model,
        answer=answer,
        claim=wrong,
        start=start,
        end=end,
        score=score,
        spans=spans,
        evidence=evidence,
        media=(("image", str(where)),),
        prompt="Describe this picture in detail.",
    )


def draw(path: Path, things: Sequence[str], seed: int) -> Path:
    """Draws a small seaside scene with the things in it."""
    chance = random.Random(seed)
    image = Image.new("RGB", (480, 360), (200 + seed % 5 * 10, 215, 235))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 210, 480, 290), fill=(70, 120, 160))
    pen.rectangle((0, 290, 480, 360), fill=(226, 205, 160))
    for place, thing in enumerate(things):
        x = 30 + place * 110 + chance.randint(0, 20)
        if thing == "sun":
            pen.ellipse((x, 30, x + 60, 90), fill=(250, 190, 90))
        elif thing == "boat":
            pen.polygon([(x, 240), (x + 80, 240), (x + 65, 262), (x + 15, 262)], fill="white")
            pen.polygon([(x + 40, 170), (x + 40, 235), (x + 75, 235)], fill=(245, 240, 230))
        elif thing == "house":
            pen.rectangle((x, 230, x + 80, 310), fill=(176, 60, 50))
            pen.polygon([(x - 8, 230), (x + 88, 230), (x + 40, 190)], fill=(90, 50, 45))
        elif thing == "tree":
            pen.rectangle((x + 30, 240, x + 42, 320), fill=(95, 70, 50))
            pen.ellipse((x, 150, x + 72, 250), fill=(70, 115, 75))
        elif thing == "bird":
            pen.arc((x, 90, x + 30, 110), 180, 360, fill="black", width=3)
            pen.arc((x + 30, 90, x + 60, 110), 180, 360, fill="black", width=3)
        else:
            pen.rounded_rectangle((x, 285, x + 60, 320), 8, fill=(110 + seed * 5 % 80, 85, 60))
    image.save(path)
    return path
