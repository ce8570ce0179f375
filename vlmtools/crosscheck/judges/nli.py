"""An entailment model: does the evidence entail the sentence, or contradict it? The NLI variant of the paper."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck.claims import sentences
from vlmtools.crosscheck.judges._entailment import Entailment, columns, open_model
from vlmtools.crosscheck.judges._model_folder import fingerprint, model_folder, model_name
from vlmtools.crosscheck.judges.base import Judge, Question, Vote
from vlmtools.errors import BadInput
from vlmtools.types import Json

BLOCK = 256
"""Questions whose pairs are batched together."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class NLI(Judge):
    """Support is P(entailment) / (P(entailment) + P(contradiction)), the evidence being the premise.

    Which output means what is read from the model's own configuration. A passage that does not fit into the model
    together with the sentence is cut between its sentences into windows, and the window that entails the sentence
    most decides. A neutral passage leaves the ratio to chance: two small numbers are compared.

    Args:
        model: Folder or hub id of a cross-encoder with safetensors, or a folder with one `.onnx` file,
            `tokenizer.json` and `config.json`.
        revision: Commit, tag or branch of a hub id; None is its main branch.
        labels: Names of the outputs in order, such as `entailment;contradiction`, for models whose configuration
            only has LABEL_0, LABEL_1; empty reads the configuration.
        max_tokens: Longest pair in tokens, at least 16; 0 takes the model's own limit.
        batch_size: Pairs computed together, at least 1; changes speed only.
        device: Where to compute, such as `cpu` or `cuda`; None chooses. ONNX models run on the CPU.

    Reference: arXiv:2405.13684, NLI variant; arXiv:2303.08896.
    """

    model: str = "cross-encoder/nli-deberta-v3-base"
    revision: str | None = None
    labels: str = ""
    max_tokens: int = 0
    batch_size: int = 16
    device: str | None = None

    def identity(self) -> Mapping[str, Json]:
        """Name, version, fingerprint of the model's files, labels and length limit."""
        return {
            "judge": self.name,
            "version": 1,
            "model": model_name(self.model),
            "fingerprint": fingerprint(self._folder),
            "labels": self.labels,
            "max_tokens": self.max_tokens,
        }

    def judge(self, questions: Sequence[Question]) -> Iterator[tuple[int, tuple[Vote, ...]]]:
        """Yield the votes in order, block by block; an empty passage supports nothing.

        Raises:
            BadInput: A field cannot be used, or the model has no output for entailment or contradiction.
            NotInstalled: The model is an ONNX file and onnxruntime is missing.
            UnknownName: There is no such model.
        """
        if self.batch_size < 1 or (self.max_tokens and self.max_tokens < 16):
            raise BadInput(
                f"The judge 'nli' was given batch_size={self.batch_size} and max_tokens={self.max_tokens}. "
                "Batches hold 1 pair or more; a pair needs 16 tokens or more, or 0 for the model's limit."
            )
        for start in range(0, len(questions), BLOCK):
            block = questions[start : start + BLOCK]
            supports = self._supports(
                [_pair(question, claim) for question in block for claim in question.claims]
            )
            for index, question in enumerate(block, start):
                yield index, tuple(Vote(supports[_pair(question, claim)]) for claim in question.claims)

    def close(self) -> None:
        """Forget the model."""
        self.__dict__.pop("_entailment", None)

    def _supports(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """Support of every distinct pair."""
        found = dict.fromkeys(pairs, 0.0)
        windows = [(pair, (part, pair[1])) for pair in found for part in self._windows(*pair)]
        distinct = list(dict.fromkeys(window for _, window in windows))
        shares = dict(zip(distinct, self._probabilities(distinct), strict=True))
        best: dict[Pair, float] = {}
        for pair, window in windows:
            entails, contradicts = shares[window]
            if entails > best.get(pair, -1.0):
                best[pair] = entails
                found[pair] = round(float(entails / max(entails + contradicts, 1e-12)), 6)
        return found

    def _windows(self, premise: str, claim: str) -> list[str]:
        """The passage whole if it fits, else runs of its sentences that do; nothing for an empty passage."""
        limit = self._limit
        if not premise or self._entailment.n_tokens(premise, claim) <= limit:
            return [premise] if premise else []
        runs: list[list[str]] = [[]]
        for sentence in (found.text for found in sentences(premise)):
            if runs[-1] and self._entailment.n_tokens(" ".join([*runs[-1], sentence]), claim) > limit:
                runs.append([])
            runs[-1].append(sentence)
        return [" ".join(run) for run in runs]

    def _probabilities(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """(P(entailment), P(contradiction)) of each pair, longest pairs first so that batches are even."""
        entailment, contradiction = columns(self._entailment.labels, self.labels, self.model)
        order = sorted(range(len(pairs)), key=lambda index: -sum(map(len, pairs[index])))
        shares: list[tuple[float, float]] = [(0.0, 0.0)] * len(pairs)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            table = softmax(self._entailment.logits([pairs[index] for index in batch], self._limit))
            for index, row in zip(batch, table, strict=True):
                shares[index] = (float(row[entailment]), float(row[contradiction]))
        return shares

    @property
    def _limit(self) -> int:
        own = self._entailment.max_tokens
        return min(self.max_tokens, own) if self.max_tokens else own

    @cached_property
    def _folder(self) -> Path:
        return model_folder(self.model, self.revision, files=("*.json", "*.txt", "*.model", "*.safetensors"))

    @cached_property
    def _entailment(self) -> Entailment:
        return open_model(self._folder, self.device)


def softmax(logits: Float[np.ndarray, "pair label"]) -> Float[np.ndarray, "pair label"]:
    """Probabilities along the last axis.

    Args:
        logits: Any finite numbers.
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: Float[np.ndarray, "pair label"] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _pair(question: Question, claim: str) -> Pair:
    return ((question.evidence or "").strip(), claim)
