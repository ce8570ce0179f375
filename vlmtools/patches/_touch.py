"""What patches touch on a loaded model: modules, heads and tokens, seen while it answers one question."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._processors import takes_images
from vlmtools.patches.base import Patch, Status
from vlmtools.types import Json
from vlmtools.vlm import VLM

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

QUESTION = "Describe the image."


@dataclass(frozen=True, slots=True)
class Touched:
    """What one patch does to one prompt.

    Args:
        patch: The patch.
        status: Its own report; None when it refused the model.
        refused: Why.
    """

    patch: Patch
    status: Status | None = None
    refused: str = ""

    def to_json(self) -> dict[str, Json]:
        """Plain values: layer → head numbers of the first prompt."""
        if self.status is None:
            return {"patch": self.patch.name, "settings": repr(self.patch), "refused": self.refused}
        heads = {str(layer): _numbers(chosen) for layer, chosen in sorted(self.status.heads.items())}
        return {
            "patch": self.patch.name,
            "settings": repr(self.patch),
            "modules": list(self.status.modules),
            "heads": heads,
            "tokens": self.status.tokens,
            "notes": list(self.status.notes),
        }


def touched(
    vlm: VLM, patches: Sequence[Patch], image: "Image | None" = None, prompt: str = "", together: bool = True
) -> list[Touched]:
    """Attach patches, answer one question with two tokens, and tell what each of them touched.

    Args:
        vlm: The model.
        patches: In order.
        image: What is asked about; None draws a picture.
        prompt: The question; empty asks for a description.
        together: All on at once; False tries one after the other.

    Raises:
        BadInput: The model takes text only.
    """
    must_see(vlm)
    if not together:
        return [one for patch in patches for one in touched(vlm, [patch], image, prompt)]
    inputs = vlm.inputs([vlm.chat(prompt or QUESTION, True)], [image or drawn_pictures()[0]])
    found: list[Touched] = []
    with ExitStack() as stack:
        for patch in patches:
            try:
                on = stack.enter_context(patch.attach(vlm))
                found.append(Touched(patch, on.status()))
            except CannotAttach as reason:
                found.append(Touched(patch, refused=str(reason)))
        pad = vlm.tokenizer.pad_token_id
        vlm.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=2, pad_token_id=pad)
    return found


def _numbers(chosen: "Tensor") -> list[int]:
    return [int(head) for head in chosen[0].nonzero().flatten()]


def grouped(names: Sequence[str]) -> list[str]:
    """Module names with their layer numbers put together: `layers.{1,18-31}.self_attn`.

    Args:
        names: Dotted names.
    """
    groups: dict[str, list[int]] = {}
    for name in names:
        number = re.search(r"\.(\d+)\.", name)
        groups.setdefault(re.sub(r"\.\d+\.", ".{}.", name, count=1), []).append(
            int(number[1]) if number else -1
        )
    return [
        pattern.replace("{}", "{" + ranges(numbers) + "}") if numbers != [-1] else pattern
        for pattern, numbers in groups.items()
    ]


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in short: 1,18-31.

    Args:
        numbers: Whole numbers, in any order.
    """
    runs: list[list[int]] = []
    for one in sorted(set(numbers)):
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def must_see(vlm: VLM) -> None:
    """Refuse a model that takes text only.

    Args:
        vlm: The model.

    Raises:
        BadInput: It takes text only.
    """
    if not takes_images(vlm.processor):
        raise BadInput(
            f"{vlm.name} takes text only, and patches are about pictures. Choose a model that sees."
        )


def drawn_pictures() -> "list[Image]":
    """Two pictures of coloured shapes, always the same."""
    from PIL import Image, ImageDraw

    found = []
    for ground, shape in (("skyblue", "firebrick"), ("darkseagreen", "gold")):
        picture = Image.new("RGB", (336, 336), ground)
        pen = ImageDraw.Draw(picture)
        pen.ellipse((40, 60, 180, 200), fill=shape)
        pen.rectangle((190, 150, 310, 300), fill="midnightblue", outline="white", width=6)
        pen.polygon([(60, 320), (120, 220), (170, 320)], fill="darkorange")
        found.append(picture)
    return found
