"""Does VHD find the heads that matter? Every head's VHD beside what happens when that head falls silent.

    python scripts/study_heads.py reference:clean --n 60

VHD (arXiv:2412.13949) says how far a head's output moves when the picture goes; methods such as VHR strengthen the
heads where it is large. Here every head is switched off in turn (`VHR(strength=0, heads={layer: (head,)})`) and the
model is asked the benchmark `scenes` again: the fall in accuracy and recall and the rise in CHAIR_i are what the head
was good for. Prints the table of heads and rank correlations with their intervals; writes docs/head-importance.svg.
One folder per head under runs/heads: the same line goes on where it was stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from study_plots import Box, Dot, legend, scatter, write

import vlmtools as vt
from vlmtools.benchmarks.base import load_benchmark
from vlmtools.compare import load_run
from vlmtools.evaluate.api import evaluate
from vlmtools.evaluate.run import Asking
from vlmtools.media import load_image
from vlmtools.patches.vhr import VHR
from vlmtools.responders.hf import HF
from vlmtools.stats import correlation
from vlmtools.trace import head_divergences
from vlmtools.types import Sample

HARMS: dict[str, tuple[str, float]] = {
    "fall in accuracy": ("accuracy", -1.0),
    "fall in recall": ("Recall", -1.0),
    "rise in CHAIR_i": ("CHAIRi", 1.0),
}
"""What silencing a head may do → the metric, and the sign that makes harm positive."""

PerHead = Float[np.ndarray, "layer head"]


@dataclass(frozen=True, eq=False)
class Study:
    """What was found about every head.

    Args:
        vhd: Mean over prompts.
        harm: What silencing the head did, by the names in `HARMS`.
    """

    vhd: PerHead
    harm: Mapping[str, PerHead]


def mean_vhd(vlm: vt.VLM, samples: Sequence[Sample], batch: int = 32) -> PerHead:
    """VHD of every head at the end of the prompt, mean over prompts.

    Args:
        vlm: The model.
        samples: Pictures with their prompts.
        batch: Prompts at a time, from 1.
    """
    total: np.ndarray | float = 0.0
    for start in range(0, len(samples), batch):
        some = samples[start : start + batch]
        texts = [vlm.chat(sample.prompt, True) for sample in some]
        inputs = vlm.inputs(texts, [load_image(str(sample.image)) for sample in some])
        total = total + head_divergences(vlm, inputs)[:, 0].sum(0).double().numpy()
    return np.asarray(total / len(samples))


def metrics(model: str, bench: str, folder: Path, head: tuple[int, int] | None = None) -> dict[str, float]:
    """The metrics of the model, or of the model without one head; asked once, then read from the folder.

    Args:
        model: Name or folder.
        bench: Benchmark with its settings.
        folder: Of this run.
        head: Layer and head to silence.
    """
    if not (folder / "evaluation.json").exists():
        silenced = [] if head is None else [VHR(strength=0.0, heads={head[0]: (head[1],)})]
        responder = HF(model, patches=silenced, batch_size=64, name=folder.name)
        evaluate(responder, bench, out=folder, asking=Asking(n_probes=0))
    return {name: metric.value for name, metric in load_run(folder).found.metrics.items()}


def harm(model: str, bench: str, out: Path, shape: tuple[int, int]) -> dict[str, PerHead]:
    """What silencing each head does.

    Args:
        model: Name or folder.
        bench: Benchmark with its settings.
        out: Folder of all runs of this model and benchmark.
        shape: Layers, heads.
    """
    whole = metrics(model, bench, out / "whole")
    found = {name: np.zeros(shape) for name in HARMS}
    for layer, head in np.ndindex(*shape):
        without = metrics(model, bench, out / f"without-{layer}-{head}", (layer, head))
        for name, (metric, sign) in HARMS.items():
            found[name][layer, head] = sign * (without[metric] - whole[metric])
        print(f"layer {layer + 1} head {head + 1} done", flush=True)
    return found


def within_layers(values: PerHead) -> PerHead:
    """Ranks within each layer: what a method sees that compares the heads of one layer.

    Args:
        values: One per head.
    """
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=1))


def correlations(study: Study) -> list[str]:
    """Rank correlations of VHD with each harm, over all heads and within layers: lines of a Markdown table.

    Args:
        study: What was found.
    """
    lines = ["| VHD with | all heads | within layers |", "|---|---|---|"]
    for name, values in study.harm.items():
        pairs = ((study.vhd, values), (within_layers(study.vhd), within_layers(values)))
        cells = [_said(x, y) for x, y in pairs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _said(x: PerHead, y: PerHead) -> str:
    found = correlation(x.ravel(), y.ravel())
    return f"{found.value:+.2f} [{found.ci[0]:+.2f}, {found.ci[1]:+.2f}], p {found.p:.2g}"


def chosen(study: Study) -> list[str]:
    """Mean harm of the heads with VHD above their layer's median, and of the others: Markdown lines.

    Args:
        study: What was found.
    """
    above = study.vhd > np.median(study.vhd, axis=1, keepdims=True)
    lines = ["| mean over heads | VHD above its layer's median | the others |", "|---|---|---|"]
    for name, values in study.harm.items():
        lines.append(f"| {name} | {values[above].mean():+.4f} | {values[~above].mean():+.4f} |")
    return lines


def table(study: Study) -> list[str]:
    """Every head, the largest VHD first: Markdown lines.

    Args:
        study: What was found.
    """
    lines = [f"| head | VHD | {' | '.join(study.harm)} |", "|---" * (2 + len(study.harm)) + "|"]
    order = np.argsort(-study.vhd, axis=None)
    for layer, head in zip(*np.unravel_index(order, study.vhd.shape), strict=True):
        harms = " | ".join(f"{values[layer, head]:+.3f}" for values in study.harm.values())
        lines.append(f"| {layer + 1}.{head + 1} | {study.vhd[layer, head]:.3f} | {harms} |")
    return lines


def plot(path: Path, study: Study) -> None:
    """One panel per harm.

    Args:
        path: SVG file.
        study: What was found.
    """
    marks = []
    for number, (name, values) in enumerate(study.harm.items()):
        dots = [
            Dot(float(study.vhd[place]), float(values[place]), place[0], f"{place[0] + 1}.{place[1] + 1}")
            for place in np.ndindex(*study.vhd.shape)
        ]
        title = f"{name[0].upper()}{name[1:]} without a head"
        marks += scatter(Box(340 * number, 0, 340, 310), title, "VHD of the head", name, dots)
    marks += legend(70, 328, [f"layer {layer + 1}" for layer in range(len(study.vhd))])
    write(path, 340 * len(study.harm) + 10, 346, "VHD of every head against what silencing it does", marks)


def asked(bench: str) -> list[Sample]:
    """The prompts VHD is averaged over: each scene's caption and its first question."""
    found: dict[tuple[str, str], Sample] = {}
    for sample in load_benchmark(bench).samples(None):
        found.setdefault((str(sample.extra["scene"]), str(sample.extra["task"])), sample)
    return list(found.values())


def study_of(model: str, n: int, out: Path) -> Study:
    """Everything about every head of one model.

    Args:
        model: Name or folder.
        n: Scenes.
        out: Folder of all runs.
    """
    bench = f"scenes:n={n}"
    vlm = vt.load(model)
    vhd = mean_vhd(vlm, asked(bench))
    vlm.close()
    place = out / f"{Path(model.replace(':', '/')).name}-{n}"
    layers, heads = vhd.shape
    return Study(vhd, harm(model, bench, place, (layers, heads)))


def main() -> None:
    """Run what is missing, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="reference:clean")
    parser.add_argument("--n", type=int, default=60, help="Scenes.")
    parser.add_argument("--out", type=Path, default=Path("runs/heads"), help="Folder of all runs.")
    parser.add_argument("--svg", type=Path, default=Path("docs/head-importance.svg"))
    given = parser.parse_args()
    study = study_of(given.model, given.n, given.out)
    plot(given.svg, study)
    kept = {"vhd": study.vhd.tolist(), **{name: values.tolist() for name, values in study.harm.items()}}
    (given.out / "heads.json").write_text(json.dumps(kept), encoding="utf-8")
    print("\n".join(["", *table(study), "", *correlations(study), "", *chosen(study)]))


if __name__ == "__main__":
    main()
