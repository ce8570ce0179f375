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
from vlmtools.adapters._host import Site, Sizes, attentions, path_of
from vlmtools.adapters._part import Handle, Part

__all__ = ["Adapter", "Connector", "Handle", "Part", "Site", "Sizes", "attentions", "load", "path_of"]


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
