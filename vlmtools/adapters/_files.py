"""A trained part on disk: `adapter_model.safetensors` and `adapter_config.json`, the names PEFT uses."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from torch import Tensor

from vlmtools.errors import BadInput

WEIGHTS, CONFIG, TYPE = "adapter_model.safetensors", "adapter_config.json", "vlmtools_type"


def write(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files.

    Args:
        folder: Made if absent.
        config: Everything but the weights; must be JSON.
        tensors: The weights by name.
    """
    from safetensors.torch import save_file

    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    save_file({name: one.detach().contiguous() for name, one in tensors.items()}, where / WEIGHTS)
    (where / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read both files.

    Args:
        folder: Where `write` put them.

    Raises:
        BadInput: They are not there, cannot be read, or were written by something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = Path(folder).expanduser()
    missing = [name for name in (CONFIG, WEIGHTS) if not (where / name).is_file()]
    if missing:
        raise BadInput(f"{where} has no {missing[0]}. Give the folder that save_pretrained wrote.")
    try:
        config = json.loads((where / CONFIG).read_text(encoding="utf-8"))
        # copied: kernels round differently where a file's tensors begin at odd addresses
        tensors = {name: one.clone() for name, one in load_file(where / WEIGHTS).items()}
    except (ValueError, SafetensorError) as problem:
        raise BadInput(f"{where} cannot be read: {problem}. Save it anew.") from problem
    if not isinstance(config, dict) or TYPE not in config:
        raise BadInput(
            f"{where / CONFIG} has no {TYPE!r}: vlmtools did not write it. PEFT's own adapters load with "
            "peft.PeftModel.from_pretrained."
        )
    return config, tensors


def settings(part: Any) -> dict[str, Any]:
    """The settings of a part, by name.

    Args:
        part: A dataclass.
    """
    return {one.name: getattr(part, one.name) for one in dataclasses.fields(part) if one.init}


def typed(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings read from JSON, as the fields of a dataclass want them.

    Args:
        kind: The dataclass.
        settings: Field → value.

    Raises:
        BadInput: No such field, or a value it cannot take.
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    strange = sorted(set(settings) - known)
    if strange:
        raise BadInput(
            f"{kind.__name__} has no setting {strange[0]!r}. There is: {', '.join(sorted(known))}. Load it with the "
            "version of vlmtools that wrote it."
        )
    try:
        return {key: TypeAdapter(hints[key]).validate_python(value) for key, value in settings.items()}
    except ValidationError as problem:
        raise BadInput(
            f"{kind.__name__}: a setting cannot be read: {problem.errors()[0]['msg']}."
        ) from problem
