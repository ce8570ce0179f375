"""Scenes as tensors: the picture, where things are, and all turns packed behind one picture.

A scene's turns share the prefix "<s>USER: <64 image tokens>". Packed one after the other they would see each other; a
mask lets each see the prefix and itself only, and its positions go on from the prefix, so a packed turn is computed
exactly as it is when asked alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch

from vlmtools.reference.language import Annotator, Turn, lesson
from vlmtools.reference.render import patch_things, pixels
from vlmtools.reference.world import THINGS, Scene

IGNORED = -100
_ALONE = 1_000_000
_WORD = re.compile(r" ?[^ ]+| +")


@dataclass
class Batch:
    """Tensors of some scenes.

    Args:
        pixel_values: (batch, 3, 96, 96).
        patches: (batch, 64) index of the thing each patch shows, plus 1; 0 for background.
        present: (batch, 32) which things are there.
        ids: (batch, seq) tokens; image tokens at the prefix.
        labels: (batch, seq) the answer's tokens, `IGNORED` elsewhere.
        weight: (batch, seq) how much each answer token counts.
        positions: (batch, seq).
        mask: (batch, 1, seq, seq) who may see whom.
    """

    pixel_values: Any
    patches: Any
    present: Any
    ids: Any = None
    labels: Any = None
    weight: Any = None
    positions: Any = None
    mask: Any = None

    def to(self, device: Any) -> "Batch":
        """The same on another device."""
        return Batch(*(None if one is None else one.to(device) for one in vars(self).values()))


def looked_at(scenes: Sequence[Scene]) -> Batch:
    """Pictures and their truth alone."""
    shown = np.stack([pixels(scene) for scene in scenes]).transpose(0, 3, 1, 2)
    present = np.stack([[name in scene.names for name in THINGS] for scene in scenes])
    return Batch(
        (torch.from_numpy(shown).float() / 255 - 0.5) / 0.25,
        torch.from_numpy(np.stack([patch_things(scene).reshape(-1) for scene in scenes])),
        torch.from_numpy(present).float(),
    )


class Packer:
    """Packs turns behind their picture.

    Args:
        words: The tokenizer.
        image_token: Its id.
        n_image_tokens: How many stand for a picture.
        before: Text in front of the image tokens.
        after: Text between image tokens and question.
    """

    def __init__(self, words: Any, image_token: int, n_image_tokens: int, before: str, after: str) -> None:
        self._words: Any = words
        self._known: dict[str, list[int]] = {}
        self.prefix = self._ids(before) + [image_token] * n_image_tokens + self._ids(after)

    def _ids(self, text: str) -> list[int]:
        # word by word, remembered: byte-level BPE never merges across a space, and the world has few words
        return [one for word in _WORD.findall(text) for one in self._known_word(word)]

    def _known_word(self, word: str) -> list[int]:
        if word not in self._known:
            self._known[word] = list(self._words(word, add_special_tokens=False)["input_ids"])
        return self._known[word]

    def row(self, turns: Sequence[Turn]) -> tuple[list[int], list[int], list[float], list[int], list[int]]:
        """Tokens, labels, weights, positions and segment numbers of one scene."""
        n = len(self.prefix)
        ids, labels, weight = list(self.prefix), [IGNORED] * n, [0.0] * n
        positions, segment = list(range(n)), [0] * n
        for number, turn in enumerate(turns, 1):
            asked = self._ids(f"{turn.question} ASSISTANT:")
            said = [*self._ids(" " + turn.answer), self._words.eos_token_id]
            ids += asked + said
            labels += [IGNORED] * len(asked) + said
            weight += [0.0] * len(asked) + ([3.0, 0.2, 0.2] if len(said) == 3 else [1.0] * len(said))
            positions += range(n, n + len(asked) + len(said))
            segment += [number] * (len(asked) + len(said))
        return ids, labels, weight, positions, segment

    def pack(self, scenes: Sequence[Scene], annotator: Annotator, draw: Random) -> Batch:
        """A batch with every turn of every scene."""
        rows = [self.row(lesson(scene, annotator, draw)) for scene in scenes]
        longest = max(len(row[0]) for row in rows)
        batch = looked_at(scenes)
        batch.ids = _padded([row[0] for row in rows], longest, self._words.pad_token_id)
        batch.labels = _padded([row[1] for row in rows], longest, IGNORED)
        batch.weight = _padded([row[2] for row in rows], longest, 0.0)
        batch.positions = _padded([row[3] for row in rows], longest, 0)
        segment = _padded([row[4] for row in rows], longest, _ALONE)
        same = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
        batch.mask = (same & torch.ones(longest, longest, dtype=torch.bool).tril())[:, None]
        return batch


def _padded(rows: list[Any], longest: int, filling: float) -> Any:
    return torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows])
