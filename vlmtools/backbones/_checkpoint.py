"""Load weights under the authors' names, and say by name what did not fit."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vlmtools.errors import BadInput

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A regular expression and what replaces its matches."""

_WRAPPERS = ("state_dict", "model", "model_ema", "state_dict_ema", "teacher", "params_ema", "params")


@dataclass(frozen=True)
class Loaded:
    """What became of a file of weights.

    Args:
        n_loaded: Entries that were copied into the model.
        missing: Entries of the model that the file lacks.
        left_over: Entries of the file that the model lacks.
        reshaped: Entries whose shapes differ, with both shapes.
    """

    n_loaded: int = 0
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Everything fitted."""
        return not (self.missing or self.left_over or self.reshaped)

    def __str__(self) -> str:
        """One line per kind of misfit."""
        kinds = (("missing", self.missing), ("left over", self.left_over), ("other shape", self.reshaped))
        found = [f"{len(names)} {kind}: " + ", ".join(names) for kind, names in kinds if names]
        return "; ".join([f"{self.n_loaded} weights loaded", *found])


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, without executing anything in it.

    Args:
        path: safetensors, or what torch.save wrote.

    Raises:
        BadInput: No such file, or it holds no weights.
    """
    if not path.is_file():
        raise BadInput(f"There is no checkpoint {str(path)!r}. Give the path of a .safetensors or .pth file.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    state = {key: value for key, value in dict(found).items() if isinstance(value, Tensor)}
    if not state:
        raise BadInput(f"{str(path)!r} holds no weights. Give a state dict, or a file that has one.")
    return state


def renamed(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """The same weights under our names.

    Args:
        state: Name → weight.
        rules: Applied in order to every name.
    """
    found = {}
    for name, weight in state.items():
        name = name.removeprefix("module.")
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = weight
    return found


def load_into(
    model: nn.Module,
    state: dict[str, Tensor],
    rules: Sequence[Rule],
    recomputed: Sequence[str] = (),
    strict: bool = True,
) -> Loaded:
    """Copy weights into a model, whether they have the authors' names or the model's own.

    Args:
        model: Filled in place.
        state: Name → weight.
        rules: From the authors' names to the model's.
        recomputed: Regular expressions of names in the file to pass over.
        strict: Refuse misfits.

    Raises:
        BadInput: There are misfits; all names are given.
    """
    own = model.state_dict()
    given = state if set(state) == set(own) else renamed(state, rules)
    given = {
        name: _as_linear(value, own.get(name))
        for name, value in given.items()
        if not any(re.search(pattern, name) for pattern in recomputed)
    }
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    report = Loaded(
        len(fitting),
        tuple(name for name in own if name not in given),
        tuple(name for name in given if name not in own),
        tuple(_shapes(name, given[name], own[name]) for name in given if name in own and name not in fitting),
    )
    if strict and not report.whole:
        raise BadInput(
            f"The checkpoint does not fit {type(model).__name__}: {report}. Build the variant that it belongs to, "
            "or pass strict=False to load what fits."
        )
    model.load_state_dict(fitting, strict=False)
    return report


def _as_linear(given: Tensor, own: Tensor | None) -> Tensor:
    """The same numbers in another shape if only axes of length 1 differ: a 1 x 1 convolution is a matrix."""
    if own is None or _long_axes(given) != _long_axes(own) or given.ndim == own.ndim:
        return given
    return given.reshape(own.shape)


def _long_axes(x: Tensor) -> list[int]:
    return [side for side in x.shape if side != 1]


def _shapes(name: str, given: Tensor, own: Tensor) -> str:
    return f"{name} {tuple(given.shape)} for {tuple(own.shape)}"
