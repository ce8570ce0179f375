"""Put backbones in front of a bundled language model, teach them the visual tokens that it knows, and ask about scenes.

    python scripts/backbones_as_eyes.py --backbones smt,litv2,crossvit --out runs/eyes
    python scripts/backbones_as_eyes.py --backbones smt:level=1,smt:level=2 --steps 600 --n 50

Each tower is the tiny model of a backbone with random weights, a level of its maps and a connector, put together by
`build_vlm.py`; it gives as many tokens as the language model was trained with. Tower and connector learn to give the
tokens that the bundled model's own eyes give (mean squared error); the language model stays as it is and takes no part.
Then yes-or-no questions about held-out scenes are asked, half of them about absent things, before and after.
The same line goes on with what is not there yet. Expected: about one half before, where nothing is seen, more after;
writes OUT/NAME.json and prints a Markdown table with 95 % intervals over scenes.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import build_vlm
import numpy as np
import torch
from reference_training.batches import looked_at
from torch import Tensor
from torch.nn import functional as F

import vlmtools as vt
from vlmtools import backbones
from vlmtools.reference.pictures import as_sample
from vlmtools.reference.truth import probes
from vlmtools.reference.world import World
from vlmtools.types import Decoding, Request
from vlmtools.vlm import VLM

TEACHER, N_TOKENS, PIXELS = "reference:clean", 64, 96
FIRST_TAUGHT = 70_000_000
"""Number of the first scene that is taught; no other training starts there."""


@dataclass(frozen=True)
class Eyes:
    """How one backbone did.

    Args:
        name: Architecture and level.
        n_trained: Parameters of tower and connector.
        steps: Optimiser steps.
        unexplained: Share of the variance of the bundled model's visual tokens that is missed, on held-out scenes.
        before: Right answers per scene and question, 1 or 0, with the untrained tower.
        after: The same with the trained one.
    """

    name: str
    n_trained: int
    steps: int
    unexplained: float
    before: list[list[int]]
    after: list[list[int]]


def seeing(backbone: str, level: int, teacher: Any) -> Any:
    """A LLaVA-style model: the tiny backbone in front of the bundled language model, a copy of it.

    Args:
        backbone: Architecture.
        level: Stage whose map is read.
        teacher: The bundled model.
    """
    from transformers import LlamaForCausalLM

    language = LlamaForCausalLM(teacher.config.text_config)
    language.model.load_state_dict(teacher.model.language_model.state_dict())
    language.lm_head.load_state_dict(teacher.lm_head.state_dict())
    language.generation_config = teacher.generation_config
    cls, _ = backbones.find(backbone)
    size = {"img_size": PIXELS} if cls.fixed_size else {}
    plan = build_vlm.Plan(
        backbone, level=level, tokens=N_TOKENS, size=PIXELS, image_token_id=teacher.config.image_token_id
    )
    return build_vlm.assemble(plan, cls.tiny(**size), language)


def tokens(model: Any, pictures: Tensor) -> Tensor:
    """(batch, token, channel): what the language model gets of pictures.

    Args:
        model: Any LLaVA-style model.
        pictures: Normalised.
    """
    return torch.stack(list(model.model.get_image_features(pixel_values=pictures).pooler_output))


def teach(model: Any, teacher: Any, steps: int, batch: int, rate: float = 2e-3) -> None:
    """Train tower and connector to give the teacher's tokens.

    Args:
        model: What `seeing` gave.
        teacher: The bundled model.
        steps: Optimiser steps.
        batch: Scenes per step.
        rate: Highest learning rate; it rises for a tenth of the steps and then falls to 0.
    """
    weights = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=rate)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    model.model.vision_tower.train()
    for step in range(steps):
        scenes = World().scenes(batch, FIRST_TAUGHT + step * batch)
        pictures = looked_at(list(scenes)).pixel_values
        with torch.no_grad():
            wanted = tokens(teacher, pictures)
        optimiser.zero_grad()
        F.mse_loss(tokens(model, pictures), wanted).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        plan.step()
    model.eval()


@torch.no_grad()
def unexplained(model: Any, teacher: Any, n: int) -> float:
    """Share of the variance of the teacher's tokens that a model misses.

    Args:
        model: What `teach` trained.
        teacher: The bundled model.
        n: Scenes of the test split.
    """
    pictures = looked_at(list(World(split="test").scenes(n))).pixel_values
    wanted = tokens(teacher, pictures)
    missed = (tokens(model, pictures) - wanted).square().sum()
    return float(missed / (wanted - wanted.mean((0, 1))).square().sum())


def asked(model: Any, processor: Any, n: int) -> list[list[int]]:
    """Per scene, whether each question was answered rightly.

    Args:
        model: A LLaVA-style model.
        processor: The bundled one.
        n: Scenes of the test split.
    """
    vlm = VLM.wrap(model, processor, "eyes")
    rights = []
    for scene in World(split="test").scenes(n):
        questions = list(probes(scene, "random"))
        requests = [
            Request(as_sample(scene, prompt=one.question), Decoding(max_new_tokens=4)) for one in questions
        ]
        replies = vlm.generate(requests)
        said = [(reply.text or "").strip().lower().startswith("yes") for reply in replies]
        rights.append([int(yes == one.present) for yes, one in zip(said, questions, strict=True)])
    return rights


def share(rights: list[list[int]], seed: int = 0, n_resamples: int = 2000) -> str:
    """Right answers in percent, with the 95 % interval from resampling scenes.

    Args:
        rights: Per scene and question, 1 or 0.
        seed: Of the resampling.
        n_resamples: How often.
    """
    right, asked_ = (np.array([f(one) for one in rights], dtype=float) for f in (sum, len))
    drawn_ = np.random.default_rng(seed).integers(0, len(rights), (n_resamples, len(rights)))
    low, high = np.quantile(right[drawn_].sum(1) / asked_[drawn_].sum(1), [0.025, 0.975])
    return f"{right.sum() / asked_.sum():.1%} [{low:.1%}, {high:.1%}]"


def run(name: str, steps: int, batch: int, n: int, out: Path) -> Eyes:
    """Build, ask, teach, ask; done once.

    Args:
        name: Architecture, with `:level=1` for another level than the second from the end.
        steps: Optimiser steps.
        batch: Scenes per step.
        n: Scenes asked about.
        out: Folder of results.
    """
    path = out / f"{name.replace(':', '-').replace('=', '')}-{steps}x{batch}-{n}.json"
    if path.is_file():
        return Eyes(**json.loads(path.read_text(encoding="utf-8")))
    backbone, _, level = name.partition(":level=")
    teacher = vt.load(TEACHER)
    torch.manual_seed(0)
    model = seeing(backbone, int(level or -2), teacher.model)
    parts = (model.model.vision_tower, model.model.multi_modal_projector)
    before = asked(model, teacher.processor, n)
    teach(model, teacher.model, steps, batch)
    n_trained = sum(weight.numel() for part in parts for weight in part.parameters())
    missed = unexplained(model, teacher.model, n)
    found = Eyes(name, n_trained, steps, missed, before, asked(model, teacher.processor, n))
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found)) + "\n", encoding="utf-8")
    return found


def table(rows: list[Eyes], own: list[list[int]]) -> str:
    """Markdown.

    Args:
        rows: What was found.
        own: Right answers of the bundled model with its own eyes.
    """
    n_questions = sum(map(len, own))
    lines = [
        "| eyes | trained | tokens missed | right before | right after |",
        "|---|---|---|---|---|",
        *(
            f"| {row.name}, {row.steps} steps | {row.n_trained:,} | {row.unexplained:.1%} | {share(row.before)} "
            f"| {share(row.after)} |"
            for row in rows
        ),
        f"| its own | - | 0 % | - | {share(own)} |",
    ]
    return "\n".join(lines) + f"\n\n{n_questions} questions about {len(own)} scenes."


def main() -> None:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbones", default="smt", help="architectures, separated by commas; smt:level=1")
    parser.add_argument("--steps", type=int, default=800, help="optimiser steps")
    parser.add_argument("--batch", type=int, default=32, help="scenes per step")
    parser.add_argument("--n", type=int, default=60, help="scenes asked about")
    parser.add_argument("--out", type=Path, default=Path("runs/eyes"))
    parser.add_argument("--record", type=Path, help="file to keep the table in, which write_docs.py shows")
    given = parser.parse_args()
    rows = [run(name, given.steps, given.batch, given.n, given.out) for name in given.backbones.split(",")]
    teacher = vt.load(TEACHER)
    shown = table(rows, asked(teacher.model, teacher.processor, given.n))
    print(shown)
    if given.record:
        given.record.write_text(shown + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
