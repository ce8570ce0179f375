"""What a trainable part is: a `Connector` turns vision features into tokens, an `Adapter` sits inside a frozen model.

    moh = MoH(shared=0.5).attach(vlm)        # the host is frozen; only moh.parameters() train
    …                                        # any training loop; output.loss contains the auxiliary losses
    moh.save_pretrained("moh")               # safetensors + JSON, only what was trained
    moh.detach()                             # the host is what it was, bit for bit

    with MoH.from_pretrained("moh", vlm):    # the other way round; also: load("moh", vlm)
        vlm.answer("beach.jpg", "How many boats are there?")

Both are torch modules *and* dataclasses: the fields are the hyperparameters, every one has a default, and they are what
`adapter_config.json` holds. A subclass is decorated with `@dataclass(eq=False, repr=False)` (torch wants its own `==`
and `repr`), lies in a file named after it, and never defines `__init__`.
"""

from pathlib import Path
from typing import Any

from vlmtools import registry
from vlmtools.adapters import _files
from vlmtools.adapters._adapter import Adapter
from vlmtools.adapters._connector import Connector
from vlmtools.adapters._host import Site, Sizes, attentions, host_of, path_of
from vlmtools.adapters._part import Handle, Part
from vlmtools.errors import BadInput

__all__ = [
    "Adapter", "Connector", "Handle", "Part", "Site", "Sizes", "as_peft", "attentions", "load", "path_of",
    "register_peft",
]  # fmt: skip


def load(folder: str | Path, target: Any = None) -> Part:
    """Load a saved connector or adapter, whatever its class.

    Args:
        folder: Where `save_pretrained` put it.
        target: Attach to this model; None attaches to nothing.

    Raises:
        BadInput: The files are missing or damaged.
        UnknownName: No connector or adapter of that name is installed.
    """
    config, _ = _files.read(folder)
    kind = registry.load("vlmtools.adapters", str(config[_files.TYPE]), Part)  # type: ignore[type-abstract]
    return kind.from_pretrained(folder, target)


def register_peft() -> None:
    """Make PEFT know parts of vlmtools; call it before `PeftModel.from_pretrained` on a folder that holds one.

    Raises:
        BadInput: PEFT is not installed, or too old.
    """
    _tuner()


def as_peft(part: Part, target: Any) -> Any:
    """A `PeftModel` that trains a part: PEFT's trainers, `save_pretrained`, `disable_adapter` and `unload` work on it.

    Args:
        part: Not attached.
        target: A `VLM` or a loaded model.

    Raises:
        BadInput: PEFT is not installed, or too old.
        CannotAttach: The part does not fit the model.
    """
    return _tuner().as_peft(part, host_of(target))


def _tuner() -> Any:
    try:
        from vlmtools.adapters import _peft_tuner
    except ImportError as problem:
        raise BadInput(f"PEFT cannot be imported ({problem}). Install vlmtools[peft].") from problem
    return _peft_tuner
