"""Every error vlmtools raises on purpose.

Each says what was given, what exists and what to do next, and derives from the closest built-in too, so that
`except ValueError` keeps working.

    VlmToolsError
    ├── BadInput            (ValueError)   an option, a file or a row that cannot be used as it is
    │   ├── CannotAttach                   a method has nothing to act on in this model, or would be ignored by it
    │   ├── MissingField    (KeyError)     a row lacks a field that was asked for
    │   └── MixedModality                  rows that saw different inputs would be ranked against each other
    ├── UnknownName         (LookupError)  no such judge, patch, benchmark, family, …
    ├── NotInstalled        (ImportError)  an optional package is missing; the message names the extra
    ├── NotStored           (LookupError)  an offline run needs a call that no earlier run has made
    ├── StoreError          (OSError)      a run folder that cannot be used
    │   ├── StoreLocked                    another process is writing to it
    │   └── StoreMismatch                  it belongs to another question
    ├── ResponderError      (RuntimeError) a model or server gave no answer
    │   └── ServerError                    the server refused or failed, after all retries
    └── BudgetSpent         (RuntimeError) the run stopped because its budget is used up
"""

import difflib
from collections.abc import Iterable


class VlmToolsError(Exception):
    """Root of everything raised on purpose."""

    def __str__(self) -> str:
        """The message as written (KeyError would print its repr)."""
        return " ".join(str(arg) for arg in self.args)


class BadInput(VlmToolsError, ValueError):
    """An option, a file or a row that cannot be used as it is."""


class CannotAttach(BadInput):
    """A method has nothing to act on in this model, or the model would ignore it."""


class MissingField(BadInput, KeyError):
    """A row lacks a field that was asked for."""


class MixedModality(BadInput):
    """Rows that saw different inputs would be ranked against each other."""


class UnknownName(VlmToolsError, LookupError):
    """No such judge, patch, benchmark or family."""


class NotInstalled(VlmToolsError, ImportError):
    """An optional package is missing."""

    @classmethod
    def extra(cls, package: str, extra: str, why: str) -> "NotInstalled":
        """Says which extra brings `package` and what it is needed for."""
        return cls(
            f"{why} needs the package {package!r}, which is not installed. Run: pip install 'vlmtools[{extra}]'"
        )


class NotStored(VlmToolsError, LookupError):
    """An offline run needs a call that no earlier run has made."""


class StoreError(VlmToolsError, OSError):
    """A run folder that cannot be used."""


class StoreLocked(StoreError):
    """Another process is writing to the run folder."""


class StoreMismatch(StoreError):
    """The run folder belongs to another question."""


class ResponderError(VlmToolsError, RuntimeError):
    """A model or server gave no answer."""


class ServerError(ResponderError):
    """The server refused or failed, after all retries."""


class BudgetSpent(VlmToolsError, RuntimeError):
    """The run stopped because its budget is used up; what was computed is kept."""


def suggest(given: str, known: Iterable[str]) -> str:
    """The second half of an unknown-name message: a close match, if any, and everything there is."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} There is: {', '.join(names) or 'nothing'}."
