"""Drawn scenes in the layouts of published benchmarks, so that trained models can be asked offline."""

import json
from pathlib import Path

from vlmtools.reference.pictures import drawn
from vlmtools.reference.render import picture
from vlmtools.reference.truth import probes
from vlmtools.reference.world import Scene, World


def scenes(n: int) -> list[Scene]:
    """The first scenes of a part of the test split that no other test uses."""
    return list(World(split="test").scenes(n, 9000))


def pope(folder: Path, n: int = 8) -> Path:
    """Two questions of `probes` per scene, as the published files have them; pictures beside the file."""
    rows: list[dict[str, object]] = []
    for scene in scenes(n):
        drawn(scene, folder)
        for probe in list(probes(scene, "adversarial"))[:2]:
            truth, image = "yes" if probe.present else "no", f"{scene.id}.png"
            rows.append(
                {"question_id": len(rows) + 1, "image": image, "text": probe.question, "label": truth}
            )
    file = folder / "coco_pope_adversarial.json"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def chair(folder: Path, n: int = 8) -> Path:
    """Objects per picture by COCO's numbers, the pictures named as COCO names them."""
    each = scenes(n)
    for number, scene in enumerate(each):
        picture(scene).save(folder / f"COCO_val2014_{number:012d}.jpg", quality=95)
    file = folder / "gt_objects.json"
    file.write_text(json.dumps({str(number): list(scene.names) for number, scene in enumerate(each)}))
    return file
