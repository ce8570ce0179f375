"""Evaluating on hallucination benchmarks: answers to score, or a model to ask and then score.

The package is callable, so that `vt.evaluate(...)` and `vlmtools.evaluate.scoring` can share one name.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from vlmtools.evaluate.api import evaluate

        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
