"""Entailment models from a folder: a cross-encoder in torch, or an ONNX file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vlmtools.crosscheck.judges._model_folder import quiet
from vlmtools.errors import BadInput, NotInstalled

FALLBACK_TOKENS = 512
"""Length limit of models that do not say theirs."""


class Entailment(Protocol):
    """A model that reads (premise, hypothesis) pairs."""

    labels: tuple[str, ...]
    """Names of the outputs, in order."""
    max_tokens: int
    """Longest pair it reads."""

    def n_tokens(self, premise: str, claim: str) -> int:
        """Length of a pair, special tokens included, uncut."""
        ...

    def logits(self, pairs: Sequence[tuple[str, str]], limit: int) -> Float[np.ndarray, "pair label"]:
        """Raw outputs; of a pair longer than `limit`, the end of the longer text is cut off."""
        ...


def open_model(folder: Path, device: str | None) -> Entailment:
    """Open the model in a folder.

    Args:
        folder: With safetensors, or with exactly one ONNX file.
        device: For torch models; None chooses.

    Raises:
        BadInput: The folder has neither.
        NotInstalled: It is an ONNX model and onnxruntime is missing.
    """
    if any(folder.glob("*.safetensors")):
        return TorchModel(folder, device)
    files = sorted(folder.rglob("*.onnx"))
    if len(files) != 1:
        raise BadInput(
            f"{folder} cannot be used as an entailment model: it has no safetensors and {len(files)} ONNX files. "
            "Give a folder with model.safetensors, or with one .onnx file, tokenizer.json and config.json."
        )
    return OnnxModel(folder, files[0])


def columns(own: Sequence[str], given: str, model: str) -> tuple[int, int]:
    """Which outputs mean entailment and contradiction.

    Args:
        own: Labels from the model's configuration.
        given: Labels the user gave, separated by semicolons or commas; empty for none.
        model: Named in the message.

    Raises:
        BadInput: The labels do not say, or do not fit the model.
    """
    names = (
        [name.strip().lower() for name in given.replace(",", ";").split(";")]
        if given
        else [n.lower() for n in own]
    )
    found = [
        [place for place, name in enumerate(names) if name.startswith(kind)]
        for kind in ("entail", "contradict")
    ]
    if len(found[0]) != 1 or len(found[1]) != 1 or len(names) != len(own):
        raise BadInput(
            f"The outputs of {model!r} are called {', '.join(names)}; it has {len(own)}. One must be entailment and "
            "one contradiction. If the model's own names do not say, give them in its order, for example "
            "labels='contradiction;entailment;neutral'."
        )
    return found[0][0], found[1][0]


class TorchModel:
    """A cross-encoder as sentence-transformers loads it.

    Args:
        folder: Where it is saved.
        device: Where to compute; None chooses.
    """

    def __init__(self, folder: Path, device: str | None) -> None:
        with quiet():
            from sentence_transformers import CrossEncoder

            self._model: Any = CrossEncoder(str(folder), device=device)
        self.labels = _labels(self._model.config.id2label)
        # A limit of 1e30 stands for "unknown" in saved tokenizers.
        known = [self._model.tokenizer.model_max_length, self._model.config.max_position_embeddings]
        self.max_tokens = min([int(size) for size in known if size and 0 < size < 10**6] or [FALLBACK_TOKENS])

    def n_tokens(self, premise: str, claim: str) -> int:
        """Length of a pair, special tokens included, uncut."""
        return len(self._model.tokenizer(premise, claim, truncation=False, verbose=False)["input_ids"])

    def logits(self, pairs: Sequence[tuple[str, str]], limit: int) -> Float[np.ndarray, "pair label"]:
        """Raw outputs of the classification head."""
        import torch

        premises, claims = zip(*pairs, strict=True)
        options = {
            "padding": True,
            "truncation": "longest_first",
            "max_length": limit,
            "return_tensors": "pt",
        }
        batch = self._model.tokenizer(list(premises), list(claims), **options).to(self._model.device)
        with torch.inference_mode():
            found: Float[np.ndarray, "pair label"] = self._model.model(**batch).logits.float().cpu().numpy()
        return found


class OnnxModel:
    """An ONNX file with the tokenizer and configuration beside it.

    Args:
        folder: Where `tokenizer.json` and `config.json` lie.
        file: The ONNX file.
    """

    def __init__(self, folder: Path, file: Path) -> None:
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError:
            raise NotInstalled.extra("onnxruntime", "onnx", "An ONNX entailment model") from None
        config = _config(folder)
        self.labels = _labels(config.get("id2label") or {})
        # Some families count two positions more than they can read; the usual limit is safe for all.
        self.max_tokens = min(int(config.get("max_position_embeddings") or FALLBACK_TOKENS), FALLBACK_TOKENS)
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad = int(config.get("pad_token_id") or 0)
        self._session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        nodes = self._session.get_inputs()
        self._inputs = [node.name for node in nodes]
        # Some exports have a fixed batch or length; a name instead of a number means that any will do.
        self._n_rows, self._width = (size if isinstance(size, int) else 0 for size in nodes[0].shape)
        self.max_tokens = min(self.max_tokens, self._width or self.max_tokens)

    def n_tokens(self, premise: str, claim: str) -> int:
        """Length of a pair, special tokens included, uncut."""
        return len(self._tokenizer.encode(premise, claim).ids)

    def logits(self, pairs: Sequence[tuple[str, str]], limit: int) -> Float[np.ndarray, "pair label"]:
        """Raw outputs of the first output node."""
        self._tokenizer.enable_truncation(limit, strategy="longest_first")
        rows = self._tokenizer.encode_batch(list(pairs))
        self._tokenizer.no_truncation()
        size = self._n_rows or len(rows)
        tables = [self._run(rows[start : start + size]) for start in range(0, len(rows), size)]
        found: Float[np.ndarray, "pair label"] = np.concatenate(tables)
        return found

    def _run(self, rows: list[Any]) -> Float[np.ndarray, "pair label"]:
        width = self._width or max(len(row.ids) for row in rows)
        filled = rows + [rows[-1]] * (self._n_rows - len(rows))
        parts = {
            "input_ids": _padded([row.ids for row in filled], width, self._pad),
            "attention_mask": _padded([row.attention_mask for row in filled], width, 0),
            "token_type_ids": _padded([row.type_ids for row in filled], width, 0),
        }
        outputs = self._session.run(None, {name: parts[name] for name in self._inputs})
        found: Float[np.ndarray, "pair label"] = outputs[0][: len(rows)]
        return found


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> np.ndarray:
    return np.array([[*row, *[fill] * (width - len(row))] for row in rows], dtype=np.int64)


def _labels(id2label: dict[Any, str]) -> tuple[str, ...]:
    return tuple(str(name) for _, name in sorted(id2label.items(), key=lambda pair: int(pair[0])))


def _config(folder: Path) -> dict[str, Any]:
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise BadInput(
            f"{folder} lacks {' and '.join(missing)}. An ONNX entailment model needs config.json (with id2label) and "
            "tokenizer.json beside it. Copy them there."
        )
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
