"""How close a sentence comes to the nearest sentence of the evidence: a small embedding model on the CPU."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck.claims import sentences
from vlmtools.crosscheck.judges._model_folder import fingerprint, model_folder, model_name, quiet
from vlmtools.crosscheck.judges.base import Judge, Question, Vote
from vlmtools.errors import BadInput
from vlmtools.types import Json

_CHUNK = 4096
"""Distinct texts encoded before the first votes are yielded."""

Vectors = OrderedDict[str, Float[np.ndarray, "dim"]]


@dataclass(frozen=True)
class Embedding(Judge):
    """Cosine between the sentence and the nearest sentence of the evidence, stretched to [0, 1].

    Support is `(cosine - low) / (high - low)`, cut at 0 and 1. Every distinct sentence is encoded once; the
    vectors of the most recent ones are kept. Sentences longer than the model's limit are judged by their
    beginning. An embedding hears what a sentence is about, not whether it is denied: "a dog" and "no dog"
    are close.

    Args:
        model: `minilm` (inside the package of the extra `minilm`, no download), a folder saved by
            sentence-transformers, or a hub id such as `sentence-transformers/all-MiniLM-L6-v2`.
        revision: Commit, tag or branch of a hub id; None is its main branch.
        low: Cosine, -1 to 1, at which support is 0. Between captions of different photographs MiniLM's median
            is .25.
        high: Cosine at which support is 1, above `low`; low=0 with high=1 is the plain cosine, cut at 0.
            Between two models' captions of one photograph the upper quartile is .76.
        batch_size: Sentences encoded together, at least 1; changes speed only.
        device: Where to compute, such as `cpu` or `cuda`; None chooses.
        n_cached: Vectors kept in memory, at least 0; 100,000 of 384 numbers take 150 MB.
    """

    model: str = "minilm"
    revision: str | None = None
    low: float = 0.25
    high: float = 0.75
    batch_size: int = 64
    device: str | None = None
    n_cached: int = 100_000
    _vectors: Vectors = field(default_factory=OrderedDict, init=False, repr=False, compare=False)

    def identity(self) -> Mapping[str, Json]:
        """Name, version, fingerprint of the model's files, calibration."""
        return {
            "judge": self.name,
            "version": 1,
            "model": model_name(self.model),
            "fingerprint": fingerprint(self._folder),
            "low": self.low,
            "high": self.high,
        }

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield the votes in order, after every few thousand new sentences.

        Raises:
            BadInput: `low` is not below `high`.
        """
        if not self.low < self.high:
            raise BadInput(
                f"The judge 'embedding' was given low={self.low} and high={self.high}. "
                "Cosines lie between -1 and 1. Choose low below high."
            )
        for start, stop in _chunks(questions):
            vectors = self._encoded(_texts(questions[start:stop]))
            for index in range(start, stop):
                yield index, self._votes(questions[index], vectors)

    def close(self) -> None:
        """Forget the model and the vectors."""
        self._vectors.clear()
        self.__dict__.pop("_encoder", None)

    def _votes(self, question: Question, vectors: Mapping[str, Float[np.ndarray, "dim"]]) -> tuple[Vote, ...]:
        passage = _split(question.evidence or "")
        if not passage:
            return tuple(Vote(0.0) for _ in question.claims)
        claims = np.stack([vectors[claim] for claim in question.claims])
        nearest = (claims @ np.stack([vectors[text] for text in passage]).T).max(axis=1)
        return tuple(Vote(round(float(support), 6)) for support in stretch(nearest, self.low, self.high))

    def _encoded(self, texts: Sequence[str]) -> Mapping[str, Float[np.ndarray, "dim"]]:
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        new = [text for text in texts if text not in found]
        if new:
            encoded = self._encoder.encode(
                new,
                batch_size=self.batch_size,
                convert_to_numpy=True,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            found.update(zip(new, encoded.astype(np.float32), strict=True))
        self._remember(found)
        return found

    def _remember(self, found: Mapping[str, Float[np.ndarray, "dim"]]) -> None:
        for text, vector in found.items():
            self._vectors[text] = vector
            self._vectors.move_to_end(text)
        while len(self._vectors) > self.n_cached:
            self._vectors.popitem(last=False)

    @cached_property
    def _folder(self) -> Any:
        return model_folder(self.model, self.revision)

    @cached_property
    def _encoder(self) -> Any:
        with quiet():
            from sentence_transformers import SentenceTransformer

            return SentenceTransformer(str(self._folder), device=self.device)


def stretch(cosine: Float[np.ndarray, "claim"], low: float, high: float) -> Float[np.ndarray, "claim"]:
    """Map cosines to support: 0 up to `low`, 1 from `high`, a straight line between.

    Args:
        cosine: Cosines, -1 to 1.
        low: Where support begins.
        high: Where support is full, above `low`.
    """
    return np.clip((cosine - low) / (high - low), 0.0, 1.0)


@lru_cache(maxsize=4096)
def _split(evidence: str) -> tuple[str, ...]:
    return tuple(claim.text for claim in sentences(evidence))


def _texts(questions: Sequence[Question]) -> list[str]:
    """Distinct claims and evidence sentences, in order of appearance."""
    both = ((*question.claims, *_split(question.evidence or "")) for question in questions)
    return list(dict.fromkeys(text for texts in both for text in texts))


def _chunks(questions: Sequence[Question]) -> Iterator[tuple[int, int]]:
    """Ranges of questions that bring about `_CHUNK` distinct texts each."""
    start, seen = 0, set[str]()
    for index in range(len(questions)):
        seen.update(_texts(questions[index : index + 1]))
        if len(seen) >= _CHUNK:
            yield start, index + 1
            start, seen = index + 1, set()
    if start < len(questions):
        yield start, len(questions)
