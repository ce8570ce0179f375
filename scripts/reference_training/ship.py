"""From a trained stage to a bundled model: half-precision safetensors, processor files, a model card."""

import json
import shutil
from pathlib import Path
from typing import Any

from reference_training.stages import STAGES, Stage

PLACE = Path(__file__).parents[2] / "vlmtools" / "reference" / "models"
FILES = (
    "tokenizer.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "chat_template.jinja", "generation_config.json",
)  # fmt: skip

CARD = """# {name}

A small vision-language model of the picture world of vlmtools, trained from nothing by `scripts/train_reference.py`.
Why it hallucinates: {why}

* Layout: {layout}, {millions:.1f} million parameters, stored in half precision, loaded in single precision.
* Trained: {steps} steps of {scenes} scenes{begun}; every scene with a caption, a list and eight to nine questions.
* Losses at the end (mean of the last ten notes): {losses}.
* It knows 32 things on a three-by-three grid and nothing else. It proves mechanics, not how large models behave.
* Licence: Apache-2.0. The pictures it learnt from were drawn with Noto Color Emoji (SIL Open Font License 1.1).

Results: docs/reference-models.md.
"""


def ship(name: str, out: Path) -> Path:
    """Write the bundled form of a finished stage.

    Args:
        name: The stage.
        out: Folder of all stages.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    source, target = out / name, PLACE / name
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    n_parameters = sum(one.numel() for one in model.parameters())
    target.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # written for the owner alone
    _read_in_single_precision(target / "config.json")
    for file in FILES:
        if (source / file).exists():
            shutil.copy(source / file, target / file)
    card = _card(STAGES[name], source, type(model).__name__, n_parameters)
    (target / "README.md").write_text(card, encoding="utf-8")
    return target


def _read_in_single_precision(path: Path) -> None:
    # CPUs without half-precision arithmetic would be very slow with the stored type
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _card(stage: Stage, source: Path, layout: str, n_parameters: int) -> str:
    done: dict[str, Any] = json.loads((source / "done.json").read_text())
    curve = [json.loads(line) for line in (source / "curve.jsonl").read_text().splitlines()][-10:]
    names = [name for name in curve[-1] if name not in ("step", "eta_s")]
    losses = ", ".join(f"{name} {sum(row[name] for row in curve) / len(curve):.3f}" for name in names)
    return CARD.format(
        name=stage.name,
        why=stage.why,
        layout=layout,
        millions=n_parameters / 1e6,
        steps=done["steps"],
        scenes=stage.n_scenes,
        begun=f" from `{stage.start}`" if stage.start else "",
        losses=losses,
    )
