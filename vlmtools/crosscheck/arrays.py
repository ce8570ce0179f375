"""Votes of every model on every other model's claims, summed per item: all that scores and weights need."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vlmtools.errors import BadInput
from vlmtools.types import Json


class VoteParts(Protocol):
    """The votes of a run, in memory or somewhere else, a stretch of its items at a time."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Models whose answers are scored."""
        ...

    @property
    def evidence(self) -> tuple[str, ...]:
        """Models, or one reference, that speak about those answers."""
        ...

    @property
    def n_items(self) -> int:
        """Number of items."""
        ...

    def parts(self) -> "Iterator[tuple[int, VoteArrays]]":
        """(place of its first item, votes) of every stretch, in order; may be asked for again."""
        ...


@dataclass(frozen=True)
class VoteArrays:
    """Sums and counts of inconsistency per (item, target, evidence).

    The inconsistency of a claim with an evidence model is d = 1 - support, where support is the mean over the
    evidence model's samples (arXiv:2405.13684, section 3). A pair that was never judged has count 0.

    Args:
        targets: Models whose answers are scored.
        evidence: Models (or one reference) that speak about those answers. May name more or fewer models.
        total: Sum of d over the target's claims about the item, 0 to `count`.
        count: Number of the target's claims the evidence was asked about; 0 where missing.
    """

    targets: tuple[str, ...]
    evidence: tuple[str, ...]
    total: Float[np.ndarray, "item target evidence"]
    count: Float[np.ndarray, "item target evidence"]

    def __post_init__(self) -> None:
        shape = (len(self.targets), len(self.evidence))
        if self.total.ndim != 3 or self.total.shape[1:] != shape or self.count.shape != self.total.shape:
            raise BadInput(
                f"Votes of shape {self.total.shape} and counts of shape {self.count.shape} do not fit "
                f"{shape[0]} targets and {shape[1]} evidence models. Both must be [item, target, evidence]."
            )

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.total.shape[0])

    @property
    def mean(self) -> Float[np.ndarray, "item target evidence"]:
        """Mean inconsistency of the item's claims; 0 where nobody was asked."""
        return _ratio(self.total, self.count, 0.0)

    @property
    def n_claims(self) -> Float[np.ndarray, "item target"]:
        """Claims of each answer: the largest number any evidence model was asked about."""
        return np.asarray(self.count.max(axis=2, initial=0.0))

    def parts(self) -> "Iterator[tuple[int, VoteArrays]]":
        """All items are one stretch."""
        yield 0, self


def from_lists(
    votes: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], out_of: float = 1.0
) -> VoteArrays:
    """Votes as nested lists: target → item → evidence model → one number per sentence.

    Evidence models that are targets come first and in the same order.

    Args:
        votes: "Not supported" votes; every target has the same number of items, in the same order.
        out_of: The number that means "no sample supports the sentence": 1 for means, K for sums over K.

    Raises:
        BadInput: The targets have different numbers of items.
    """
    targets = tuple(votes)
    lengths = {name: len(items) for name, items in votes.items()}
    if len(set(lengths.values())) != 1:
        raise BadInput(
            f"Every model needs votes on the same items; the numbers of items are {lengths or 'none'}."
        )
    spoke = dict.fromkeys(name for items in votes.values() for item in items for name in item)
    evidence = (*(name for name in targets if name in spoke), *(name for name in spoke if name not in votes))
    shape = (lengths[targets[0]], len(targets), len(evidence))
    total, count = np.zeros(shape), np.zeros(shape)
    for t, target in enumerate(targets):
        for i, item in enumerate(votes[target]):
            for name, sentences in item.items():
                place = i, t, evidence.index(name)
                total[place], count[place] = sum(sentences) / out_of, len(sentences)
    return VoteArrays(targets, evidence, total, count)


def read_published(folder: Path, reference: str = "reference") -> VoteArrays:
    """Read a folder of `<model>.json.gz` files in the layout of the published CrossCheckGPT votes.

    Each file holds `passages`: per item either {evidence model: one number per sentence} or, for a check
    against a reference, just one number per sentence. `samples_per_evidence_model`, when there, is what the
    numbers are out of.

    Args:
        folder: Where the files are.
        reference: Name given to the evidence when the passages are plain lists.

    Raises:
        BadInput: No such files, or files with different numbers of samples or items.
    """
    paths = sorted(Path(folder).glob("*.json.gz")) + sorted(Path(folder).glob("*.json"))
    if not paths:
        raise BadInput(
            f"{folder} holds no <model>.json.gz file. Give the folder with one file of votes per model."
        )
    files = [_read(path) for path in paths]
    out_of = {float(file.get("samples_per_evidence_model", 1)) for file in files}
    if len(out_of) != 1:
        raise BadInput(f"The files in {folder} differ in samples_per_evidence_model: {sorted(out_of)}.")
    votes = {
        str(file["model"]): [
            item if isinstance(item, dict) else {reference: item} for item in file["passages"]
        ]
        for file in files
    }
    return from_lists(votes, out_of.pop())


def _ratio(total: np.ndarray, count: np.ndarray, otherwise: float) -> np.ndarray:
    return np.asarray(np.divide(total, count, out=np.full(total.shape, otherwise), where=count > 0))


def _read(path: Path) -> dict[str, Json]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    content = json.loads(raw)
    if not isinstance(content, dict) or "model" not in content or "passages" not in content:
        raise BadInput(f"{path} is not a file of votes: it needs the fields 'model' and 'passages'.")
    return content
