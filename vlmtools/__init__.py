"""Rank, look inside, patch and evaluate vision-language models by how much they hallucinate.

Importing vlmtools loads neither torch nor transformers: each name below arrives on first use.

    vt.crosscheck(["a.jsonl", "b.jsonl"])     rank models without references
    vt.evaluate("a.jsonl", "chair", data=…)   official numbers of a benchmark
    vt.load("llava-hf/llava-1.5-7b-hf")       a model with its processor
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmtools.crosscheck.api import crosscheck as crosscheck
    from vlmtools.crosscheck.ranking import Ranking as Ranking
    from vlmtools.crosscheck.run import CrossCheck as CrossCheck
    from vlmtools.evaluate.api import evaluate as evaluate
    from vlmtools.types import Answers as Answers
    from vlmtools.types import Decoding as Decoding
    from vlmtools.types import Reply as Reply
    from vlmtools.types import Request as Request
    from vlmtools.types import Sample as Sample
    from vlmtools.vlm import VLM as VLM
    from vlmtools.vlm import load as load

__version__ = "0.1.0"

_HOME = {
    "Answers": "vlmtools.types",
    "CrossCheck": "vlmtools.crosscheck.run",
    "Decoding": "vlmtools.types",
    "Ranking": "vlmtools.crosscheck.ranking",
    "Reply": "vlmtools.types",
    "Request": "vlmtools.types",
    "Sample": "vlmtools.types",
    "VLM": "vlmtools.vlm",
    "load": "vlmtools.vlm",
}
_CALLABLE = ("crosscheck", "evaluate")
"""Not in the table above: the packages of these names are themselves callable (see their __init__)."""

__all__ = [*sorted([*_HOME, *_CALLABLE]), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"vlmtools.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'vlmtools' has no attribute {name!r}. It has: {', '.join(__all__)}.")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
