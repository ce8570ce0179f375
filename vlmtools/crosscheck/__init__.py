"""Ranking models by hallucination without references.

The package is callable, so that `vt.crosscheck([...])` and `vlmtools.crosscheck.judges` can share one name.
"""

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from vlmtools.crosscheck.api import crosscheck

        return crosscheck(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
