"""Does a ranking without references find the truth? The bundled models, whose CHAIR_i is known exactly.

    python scripts/crosscheck_reference.py                       # every bundled model, 60 scenes, 5 samples each
    python scripts/crosscheck_reference.py --models a/ b/ c/ --n 30 --samples 5 --batch 32

Every model describes the same scenes. CrossCheck then scores it without looking at the truth: `explicit`, by whether
the other models' sampled descriptions (K of them) name the same things, and `implicit`, by asking every other model
whether it sees each thing; each with equal weights and with latent truth (`em`). Beside the four scores stands the true
CHAIR_i of the very same captions, and Spearman's correlation with it. The same line goes on where it was stopped:
everything is kept in runs/crosscheck-reference.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vlmtools.bundled import PREFIX, bundled
from vlmtools.crosscheck.api import crosscheck
from vlmtools.crosscheck.judges.base import Judge
from vlmtools.crosscheck.judges.vlm import VLM
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.reference.pictures import as_samples
from vlmtools.reference.truth import caption_truth, chair
from vlmtools.reference.world import World
from vlmtools.responders.hf import HF
from vlmtools.responders.recorded import read_sources
from vlmtools.stats import Correlation, correlation
from vlmtools.types import Decoding, Responder, Sample

Mode = Literal["explicit", "implicit"]
SETTINGS: tuple[tuple[Mode, str], ...] = (
    ("explicit", "uniform"),
    ("explicit", "em"),
    ("implicit", "uniform"),
    ("implicit", "em"),
)
ASKED = "Is there a {claim} in the image?"


def judge_of(mode: Mode) -> Judge | str:
    """Objects by name; or every model looks itself and is asked, thing by thing, in words it was trained on."""
    return "objects" if mode == "explicit" else VLM(template=ASKED, yes_means="true", max_new_tokens=4)


@dataclass(frozen=True)
class Study:
    """Scores beside the truth.

    Args:
        truth: Model → CHAIR_i, CHAIR_s, recall and words of its captions.
        scores: `mode/weights` → model → score.
        intervals: `mode/weights` → model → interval of the score over scenes.
    """

    truth: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    def spearman(self) -> dict[str, Correlation]:
        """Rank correlation of every setting's scores with CHAIR_i, over models."""
        wanted = [one["CHAIRi"] for one in self.truth.values()]
        return {
            setting: correlation([scores[name] for name in self.truth], wanted)
            for setting, scores in self.scores.items()
        }


def ranked(
    sources: Sequence[Responder], samples: Sequence[Sample], mode: Mode, weights: str, k: int, out: Path
) -> Ranking:
    """One ranking; answers and votes that are in the folder are not asked for again.

    Args:
        sources: The models.
        samples: The scenes.
        mode: Who judges.
        weights: How votes are weighed.
        k: Samples of every model and scene, the evidence of `explicit`.
        out: Run folder of all settings.
    """
    return crosscheck(
        sources, items=samples, out=out, mode=mode, judge=judge_of(mode), unit="object", weights=weights, n_samples=k,
        decoding=Decoding(max_new_tokens=128),
    )  # fmt: skip


def true_chair(folder: Path, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """CHAIR of the captions that were ranked, by the scenes' own truth.

    Args:
        folder: The run folder.
        samples: The scenes.
    """
    there = {sample.id: sample.extra["objects"] for sample in samples}
    return {
        source.name: chair([caption_truth(said.text, there[id]) for id, said in source.answers.items()])
        for source in read_sources(folder)
    }


def study(sources: Sequence[Responder], samples: Sequence[Sample], k: int, out: Path) -> Study:
    """All four rankings and the truth.

    Args:
        sources: At least two models.
        samples: The scenes.
        k: Samples of every model and scene.
        out: Run folder.
    """
    scores: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for mode, weights in SETTINGS:
        found = ranked(sources, samples, mode, weights, k, out)
        name = f"{mode}/{weights}"
        scores[name] = {row.name: row.score for row in found.rows}
        intervals[name] = {row.name: row.ci for row in found.rows}
        print(f"{name} done", flush=True)
    ranked_now = {source.name for source in sources}  # the folder may hold answers of more models
    truth = {name: one for name, one in true_chair(out, samples).items() if name in ranked_now}
    return Study(
        {name: truth[name] for name in sorted(truth, key=lambda one: truth[one]["CHAIRi"])}, scores, intervals
    )


def table(found: Study) -> str:
    """Markdown: models by their true CHAIR_i, then the correlations.

    Args:
        found: What `study` gives.
    """
    lines = ["| model | true CHAIR_i | recall | " + " | ".join(found.scores) + " |"]
    lines.append("|---" * (3 + len(found.scores)) + "|")
    for name, truth in found.truth.items():
        cells = [_cell(found.scores[one][name], found.intervals[one][name]) for one in found.scores]
        lines.append(f"| {name} | {truth['CHAIRi']:.3f} | {truth['Recall']:.3f} | {' | '.join(cells)} |")
    ranks = [f"{one.value:+.2f} [{one.ci[0]:+.2f}, {one.ci[1]:+.2f}]" for one in found.spearman().values()]
    lines.append(f"| Spearman with CHAIR_i | | | {' | '.join(ranks)} |")
    return "\n".join(lines)


def _cell(score: float, ci: tuple[float, float]) -> str:
    return f"{score:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]"


def models(named: Sequence[str], **options: Any) -> list[HF]:
    """The models to rank.

    Args:
        named: Folders or names; empty for every bundled model.
        options: Of the responders.
    """
    return [HF(name, **options) for name in named or [f"{PREFIX}{one}" for one in bundled()]]


def main() -> None:
    """Ask what was not asked yet, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="*", default=[], help="Names or folders; all bundled ones by default."
    )
    parser.add_argument("--n", type=int, default=60, help="Scenes.")
    parser.add_argument(
        "--samples", "-k", type=int, default=5, help="Sampled descriptions per model and scene."
    )
    parser.add_argument("--split", choices=["test", "novel"], default="test")
    parser.add_argument("--batch", type=int, default=64, help="Questions answered together.")
    parser.add_argument("--out", type=Path, default=Path("runs/crosscheck-reference"))
    given = parser.parse_args()
    sources = models(given.models, batch_size=given.batch)
    if len(sources) < 2:
        raise SystemExit(
            "Ranking takes at least two models, and there are fewer. Name their folders with --models."
        )
    samples = list(as_samples(World(split=given.split).scenes(given.n)))
    out = given.out / f"{given.split}-{given.n}-k{given.samples}"
    found = study(sources, samples, given.samples, out)
    (out / "study.json").write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
