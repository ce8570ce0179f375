"""Train the tiny model of each backbone on handwritten digits: what is wired wrongly does not learn.

    python scripts/backbones_learn.py --out runs/learn                     # every architecture
    python scripts/backbones_learn.py --out runs/learn --names smt,nat --steps 60

The digits are the 1,797 of scikit-learn, 8 x 8 pixels, enlarged to the size of the tiny model; every sixth is kept for
the test. Nothing is fetched. The same command again leaves out what `--out` has already, and goes on with a model that
was stopped from its last checkpoint. Backbones that need timm are left out where it is not installed. `--record FILE`
keeps the rows in a JSON file, one per architecture, which `scripts/write_docs.py` shows.

Expected: a table with the loss of the first and the last ten steps and the accuracy on the test digits. Guessing gives
10 %; what learns is far above after a few hundred steps.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools import backbones, registry
from vlmtools.backbones.base import Backbone

N_FIRST = 10
"""Steps over which a loss is averaged."""


@dataclass(frozen=True)
class Learnt:
    """How one backbone did.

    Args:
        name: Of the architecture.
        steps: Optimiser steps.
        first: Mean loss of the first ten steps.
        last: Mean loss of the last ten steps.
        accuracy: Share of the test digits that are named rightly.
    """

    name: str
    steps: int
    first: float
    last: float
    accuracy: float


def digits(size: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, their labels, test images, their labels.

    Args:
        size: Side in pixels that they are enlarged to.
        seed: Decides the order.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(seed))
    small = torch.tensor(found.images, dtype=torch.float32)[order, None] / 8 - 1
    labels = torch.tensor(found.target)[order]
    images = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False).expand(
        -1, 3, -1, -1
    )
    test = torch.arange(len(labels)) % 6 == 0
    return images[~test], labels[~test], images[test], labels[test]


def learn(name: str, steps: int, batch: int, folder: Path, seed: int = 0, stop_at: int = 0) -> Learnt | None:
    """Train one tiny backbone, from its checkpoint where there is one.

    Args:
        name: Architecture.
        steps: Optimiser steps.
        batch: Images per step.
        folder: Where checkpoints go.
        seed: Decides weights and order.
        stop_at: Stop after this step as if the process had been stopped, and give None; 0 runs to the end.
    """
    cls, _ = backbones.find(name)
    torch.manual_seed(seed)
    model = cls.tiny(num_classes=10)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels, test_images, test_labels = digits(cls.tiny_sizes[0], seed)
    path = folder / f"{name}.pt"
    begin, losses = _restored(path, model, optimiser, (steps, batch, seed))
    for step in range(begin, steps):
        # drawn from the step's own number, so that a resumed run sees what an uninterrupted one sees
        chosen = torch.randint(
            len(labels), (batch,), generator=torch.Generator().manual_seed(seed * 10**6 + step)
        )
        torch.manual_seed(step)
        loss = F.cross_entropy(model.train()(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0 or step + 1 == stop_at:
            _keep(path, model, optimiser, losses, (steps, batch, seed))
        if step + 1 == stop_at:
            return None
    accuracy = _accuracy(model, test_images, test_labels)
    path.unlink(missing_ok=True)
    first, last = losses[:N_FIRST], losses[-N_FIRST:]
    return Learnt(name, steps, sum(first) / len(first), sum(last) / len(last), accuracy)


def _restored(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, plan: Sequence[int]
) -> tuple[int, list[float]]:
    if not path.is_file():
        return 0, []
    kept = torch.load(path, weights_only=True)
    if list(kept["plan"]) != list(plan):
        return 0, []
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    return len(kept["losses"]), list(kept["losses"])


def _keep(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, losses: list[float], plan: Sequence[int]
) -> None:
    half = path.with_suffix(".half")
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "losses": losses,
        "plan": list(plan),
    }
    torch.save(state, half)
    half.replace(path)


@torch.no_grad()
def _accuracy(model: Backbone, images: Tensor, labels: Tensor) -> float:
    model.eval()
    right: int = sum(
        int((model(some).argmax(-1) == truth).sum().item())
        for some, truth in zip(torch.split(images, 50), torch.split(labels, 50), strict=True)
    )
    return right / len(labels)


def table(rows: Sequence[Learnt]) -> str:
    """One line per backbone.

    Args:
        rows: What was learnt.
    """
    lines = [f"{'backbone':<20}{'steps':>7}{'first loss':>12}{'last loss':>12}{'accuracy':>10}"]
    lines += [
        f"{row.name:<20}{row.steps:>7}{row.first:>12.3f}{row.last:>12.3f}{row.accuracy:>9.1%}" for row in rows
    ]
    return "\n".join(lines)


def run(names: Sequence[str], steps: int, batch: int, folder: Path, seed: int = 0) -> list[Learnt]:
    """Train what has not been trained yet; results are written one by one.

    Args:
        names: Architectures; empty for all.
        steps: Optimiser steps of each.
        batch: Images per step.
        folder: Where results and checkpoints go.
        seed: Decides weights and order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Learnt] = []
    for name in names or registry.names("vlmtools.backbones"):
        needs = backbones.find(name)[0].needs
        if needs and find_spec(needs) is None:
            print(f"{name} is left out: {needs} is not installed")
            continue
        path = folder / f"{name}-{steps}x{batch}-{seed}.json"
        row = Learnt(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
        row = row or learn(name, steps, batch, folder, seed)
        if row is not None:
            path.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
            rows.append(row)
    return rows


def record(path: Path, rows: Sequence[Learnt]) -> None:
    """Keep rows in a file, each in the place of an older one of the same architecture.

    Args:
        path: JSON; made where it is not there.
        rows: What was learnt.
    """
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    whole = {row["name"]: row for row in [*kept, *map(asdict, rows)]}
    text = json.dumps([whole[name] for name in sorted(whole)], indent=1)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of results and checkpoints")
    parser.add_argument("--names", default="", help="architectures, separated by commas; all without it")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each")
    parser.add_argument("--batch", type=int, default=32, help="images per step")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and order")
    parser.add_argument("--record", type=Path, help="JSON file to keep the rows in")
    given = parser.parse_args()
    names = [one for one in given.names.split(",") if one]
    rows = run(names, given.steps, given.batch, given.out, given.seed)
    print(table(rows))
    if given.record:
        record(given.record, rows)


if __name__ == "__main__":
    main()
