"""Train a dual-stream CrossViT so that it neither minds turned pictures nor small attacks: the Brain-Score recipe.

    python scripts/train_dual_stream.py --pictures birds/train --test birds/val --checkpoint crossvit.pth --out runs/b
    python scripts/train_dual_stream.py --backbone tiny --size 64 --epochs 20 --rate 1e-3 --out runs/dual-digits

`--pictures` is a folder with one folder of pictures per class, which must fit memory; without it the digits of
scikit-learn are used. Every picture is turned by 0, 90, 180 or 270 degrees at random. The model then sees the picture
after one step of the fast gradient sign attack from a random start, and only that (arXiv:2001.03994). The authors'
settings are the defaults: attack 2/255 with a step of 2.5/255, Adam at 8e-5, 6 epochs, batches of 64 (arXiv:2203.06649;
they publish a mean Brain-Score of 0.442 for the pretrained model and of 0.488 for the one trained so). They also crop
and mirror at random. Here it was only seen to run: two epochs of digits on a small model, too few to learn them. No
accuracy and no Brain-Score of a model trained with it is known to us.

The same line goes on after the last whole epoch. Expected: one line per epoch with the loss and the share of test
pictures named rightly: upright, turned, attacked.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from adversarial import Normalised, attacked, turned
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools import backbones
from vlmtools.backbones.crossvit import CrossViT
from vlmtools.errors import BadInput

STATE, CURVE = "state.pt", "curve.jsonl"

Pictures = tuple[Tensor, Tensor]
"""Pictures in [0, 1], and their classes."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        radius: Largest change of a pixel by the attack, in [0, 1] of its range; 0 does not attack.
        step: Length of the attack's one step, in the same unit.
        turned: Turn pictures by quarter turns.
        rate: Learning rate.
        decay: Weight decay.
        epochs: Passes over the pictures.
        batch: Pictures per step.
        seed: Decides turns, attacks' starts and order.
    """

    radius: float = 2 / 255
    step: float = 2.5 / 255
    turned: bool = True
    rate: float = 8e-5
    decay: float = 1e-4
    epochs: int = 6
    batch: int = 64
    seed: int = 0


def epoch(model: nn.Module, optimiser: Any, pictures: Pictures, recipe: Recipe, number: int) -> float:
    """One pass over the pictures; gives the mean loss.

    Args:
        model: Trained in place.
        optimiser: Of its weights.
        pictures: To train on.
        recipe: How.
        number: Of the epoch, which decides what is drawn.
    """
    draw = torch.Generator().manual_seed(recipe.seed * 10_000 + number)
    losses = []
    model.train()
    for chosen in torch.split(torch.randperm(len(pictures[1]), generator=draw), recipe.batch):
        shown, classes = pictures[0][chosen], pictures[1][chosen]
        if recipe.turned:
            shown = turned(shown, torch.randint(4, (len(chosen),), generator=draw))
        shown = attacked(model, shown, classes, recipe.radius, recipe.step, draw)
        loss = F.cross_entropy(model(shown), classes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    return sum(losses) / len(losses)


def measured(model: nn.Module, pictures: Pictures, recipe: Recipe, seed: int = 1) -> dict[str, float]:
    """Share of pictures that are named rightly: upright, turned, attacked.

    Args:
        model: The classifier.
        pictures: To test on.
        recipe: Says how strong the attack is; 2/255 where it does not attack.
        seed: Decides turns and the attack's start.
    """
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    right = dict.fromkeys(("upright", "turned", "attacked"), 0)
    for chosen in torch.split(torch.arange(len(pictures[1])), recipe.batch):
        shown, classes = pictures[0][chosen], pictures[1][chosen]
        views = {
            "upright": shown,
            "turned": turned(shown, torch.randint(4, (len(chosen),), generator=draw)),
            "attacked": attacked(model, shown, classes, recipe.radius or 2 / 255, recipe.step, draw),
        }
        with torch.no_grad():
            for name, view in views.items():
                right[name] += int((model(view).argmax(-1) == classes).sum())
    return {name: n / len(pictures[1]) for name, n in right.items()}


def train(
    net: nn.Module, pictures: Pictures, test: Pictures, recipe: Recipe, out: Path
) -> Iterator[dict[str, float]]:
    """Rows of the curve, one per epoch, from the last whole epoch on.

    Args:
        net: Trained in place.
        pictures: To train on.
        test: To test on.
        recipe: How.
        out: Folder of state and curve.

    Raises:
        BadInput: The folder holds a run with another recipe.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = Normalised(net).to(pictures[0].device)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    done: list[dict[str, float]] = []
    if (out / STATE).is_file():
        kept = torch.load(out / STATE, weights_only=True)
        if {**kept["recipe"], "epochs": 0} != {**asdict(recipe), "epochs": 0}:
            raise BadInput(
                f"{str(out)!r} holds a run with {kept['recipe']}. Give the same, or another folder."
            )
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        done = kept["curve"]
    yield from done
    for number in range(len(done), recipe.epochs):
        loss = epoch(model, optimiser, pictures, recipe, number)
        done.append({"epoch": number + 1, "loss": loss, **measured(model, test, recipe)})
        _keep(out, {"recipe": asdict(recipe), "model": model.state_dict(), "optimiser": optimiser.state_dict(),
                    "curve": done})  # fmt: skip
        yield done[-1]


def _keep(out: Path, state: dict[str, Any]) -> None:
    half = out / "state.half"
    torch.save(state, half)
    half.replace(out / STATE)
    rows = "".join(json.dumps(row) + "\n" for row in state["curve"])
    (out / CURVE).write_text(rows, encoding="utf-8", newline="\n")


def folder(path: Path, size: int) -> Pictures:
    """Pictures of a folder of folders, cut to squares, all in memory.

    Args:
        path: Holds one folder per class.
        size: Side in pixels.

    Raises:
        BadInput: There are no classes.
    """
    import numpy as np
    from PIL import Image, ImageOps

    names = sorted(one.name for one in path.iterdir() if one.is_dir()) if path.is_dir() else []
    if not names:
        raise BadInput(f"{str(path)!r} has no folders of pictures. Give a folder with one folder per class.")
    shown, classes = [], []
    for index, name in enumerate(names):
        for file in sorted((path / name).iterdir()):
            with Image.open(file) as one:
                square = ImageOps.fit(one.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
            shown.append(torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255)
            classes.append(index)
    return torch.stack(shown), torch.tensor(classes)


def digits(size: int) -> tuple[Pictures, Pictures]:
    """The digits of scikit-learn in [0, 1]: five sixths to train on, the rest to test on.

    Args:
        size: Side in pixels that they are enlarged to.
    """
    from backbones_learn import digits as halves

    images, labels, test_images, test_labels = halves(size)
    return ((images + 1) / 2, labels), ((test_images + 1) / 2, test_labels)


def made(backbone: str, n_classes: int, checkpoint: Path | None) -> nn.Module:
    """The network.

    Args:
        backbone: A variant of a backbone, or `tiny` for a small CrossViT.
        n_classes: Outputs.
        checkpoint: Weights to begin with.
    """
    if backbone == "tiny":
        return CrossViT.tiny(num_classes=n_classes)
    return backbones.create(backbone, checkpoint is not None, checkpoint, num_classes=n_classes)


def line(row: dict[str, float]) -> str:
    """One row of the curve as text."""
    shares = "".join(f"{name} {row[name]:.1%}  " for name in ("upright", "turned", "attacked"))
    return f"epoch {row['epoch']:.0f}  loss {row['loss']:.3f}  {shares}".rstrip()


def main(given: Sequence[str] | None = None) -> None:
    """Train and print a line per epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder of state and curve")
    parser.add_argument("--backbone", default="crossvit_18_dagger_408", help="a variant, or tiny")
    parser.add_argument("--checkpoint", type=Path, help="weights to begin with")
    parser.add_argument("--pictures", type=Path, help="one folder of pictures per class; digits without it")
    parser.add_argument("--test", type=Path, help="the same, to test on")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures in pixels")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--radius", type=float, default=2.0, help="of the attack, of 255; 0: none")
    parser.add_argument("--upright", action="store_true", help="do not turn pictures")
    for name, kind in (("rate", float), ("epochs", int), ("batch", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(Recipe, name))
    args = parser.parse_args(given)
    recipe = Recipe(
        radius=args.radius / 255, turned=not args.upright, rate=args.rate, epochs=args.epochs, batch=args.batch,
        seed=args.seed,
    )  # fmt: skip
    torch.manual_seed(args.seed)
    if args.pictures is None:
        pictures, test = digits(args.size)
    else:
        pictures, test = (folder(one, args.size) for one in (args.pictures, args.test or args.pictures))
    net = made(args.backbone, int(pictures[1].max()) + 1, args.checkpoint)
    on = [tuple(one.to(args.device) for one in pair) for pair in (pictures, test)]
    for row in train(net, (on[0][0], on[0][1]), (on[1][0], on[1][1]), recipe, args.out):
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
