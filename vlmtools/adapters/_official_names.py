"""Read weights that were saved under the names the authors of a method gave their parameters.

Each method's file lists its pairs as `OFFICIAL_NAMES`: a regular expression over the official name, and what takes its
place here. The first pair that matches a whole name decides; a replacement of None drops the entry.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from vlmtools.errors import BadInput

Names = Sequence[tuple[str, str | None]]


def translated(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """The same tensors under the names used here.

    Args:
        state: Official parameter name → tensor.
        names: Pairs of a regular expression and its replacement; see the method's `OFFICIAL_NAMES`.

    Raises:
        BadInput: No pair fits a name, or two official names become the same name here.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = translated_name(name, names)
        if ours in found:
            raise BadInput(
                f"Two official parameters become {ours!r}, the second is {name!r}. Load one of them."
            )
        if ours is not None:
            found[ours] = tensor
    return found


def translated_name(name: str, names: Names) -> str | None:
    """What one official parameter is called here; None when it is not kept.

    Args:
        name: The official name.
        names: The pairs.

    Raises:
        BadInput: No pair fits.
    """
    for pattern, ours in names:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return None if ours is None else match.expand(ours)
    raise BadInput(
        f"No rule says where the official parameter {name!r} belongs. There are rules for "
        f"{', '.join(pattern for pattern, _ in names)}. Add a pair to OFFICIAL_NAMES, or leave the parameter out."
    )
