"""How much memory a checkpoint takes once loaded, found from its headers or its configuration: nothing is loaded."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlmtools.families._loading import _auto_class, load_config

log = logging.getLogger(__name__)

TOKENS = 2048
"""Tokens of one call, read and written, that the cache is reckoned for; a shorter context of the model is taken."""
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of the number formats that loading converts; other formats stay as they are stored."""
OTHERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}
"""Bytes of stored integers; what is named nowhere takes one byte."""
ASKED = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
_QUANTISED = {"4bit": 0.5 + 4 / 64, "8bit": 1.0}
"""Bytes per weight of bitsandbytes: nf4 with one float32 per 64 weights, int8 with one per row."""
_SPARED = ("embed", "lm_head", "wte", "wpe")
"""Parts of names of the matrices that quantisation leaves alone."""


def footprint(
    model: str,
    revision: str | None,
    dtype: str,
    quant: str | None,
    n_calls: int,
    trust_remote_code: bool = False,
) -> tuple[int, int] | None:
    """Bytes of the weights, and of what calls take beside them; None when this machine does not have the model.

    Nothing is loaded and nothing is downloaded: of a hub model, what is in the cache is looked at.

    Args:
        model: Hub name or folder.
        revision: Branch, tag or commit of a hub model.
        dtype: auto, float32, float16 or bfloat16.
        quant: 4bit or 8bit; None keeps the weights as they are.
        n_calls: Calls computed together, from 1.
        trust_remote_code: Run Python code that comes with the checkpoint.
    """
    folder = _on_this_machine(model, revision)
    if folder is None:
        return None
    hub = {"revision": None, "local_files_only": True, "trust_remote_code": trust_remote_code}
    try:
        config = load_config(str(folder), hub)
        stored = tensors(folder) or imagined(config)
        itemsize = loaded_itemsize(config, dtype, stored)
        return weight_bytes(stored, itemsize, quant), n_calls * call_bytes(config, itemsize)
    except Exception as problem:  # an estimate ends no run: loading says better what is wrong
        log.info("how much memory %s takes is not known: %s", model, problem)
        return None


def _on_this_machine(model: str, revision: str | None) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


class Tensor(NamedTuple):
    """A stored tensor.

    Args:
        name: In the checkpoint.
        format: As safetensors name it, such as BF16.
        shape: Sizes.
    """

    name: str
    format: str
    shape: tuple[int, ...]

    @property
    def n(self) -> int:
        """Elements."""
        product = 1
        for size in self.shape:
            product *= size
        return product


def tensors(folder: Path) -> list[Tensor]:
    """The tensors that loading would read, from the headers of their files; empty when a file is not there.

    Args:
        folder: A checkpoint.

    Raises:
        ValueError: A header is broken.
    """
    index, whole = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        files = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    else:
        files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if not all(file.is_file() for file in files):
        return []
    return [tensor for file in files for tensor in _header(file)]


def _header(path: Path) -> Iterator[Tensor]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        found = json.loads(file.read(min(length, 100 * 2**20)))
    for name, about in found.items():
        if name != "__metadata__":
            yield Tensor(name, about["dtype"], tuple(about["shape"]))


def imagined(config: Any) -> list[Tensor]:
    """The tensors of a model that is built without memory.

    Args:
        config: Of transformers.
    """
    import torch

    with torch.device("meta"):
        model = _auto_class(config).from_config(config)
    return [Tensor(name, "F32", tuple(weight.shape)) for name, weight in model.named_parameters()]


def weight_bytes(stored: Sequence[Tensor], itemsize: int, quant: str | None) -> int:
    """Bytes of the weights in memory.

    Args:
        stored: The checkpoint's tensors.
        itemsize: Bytes of a number once loaded, from 1; numbers that are no floats keep their size.
        quant: 4bit or 8bit; None keeps every tensor.
    """
    return round(sum(tensor.n * _each(tensor, itemsize, quant) for tensor in stored))


def _each(tensor: Tensor, itemsize: int, quant: str | None) -> float:
    if tensor.format not in FLOATS:
        return OTHERS.get(tensor.format, 1)
    spared = len(tensor.shape) != 2 or any(part in tensor.name for part in _SPARED)
    return itemsize if quant is None or spared else _QUANTISED[quant]


def loaded_itemsize(config: Any, dtype: str, stored: Sequence[Tensor]) -> int:
    """Bytes of a number once loaded, as `dtype` decides it.

    Args:
        config: Of transformers; `auto` takes its dtype, else that of the first tensor of floats.
        dtype: auto, float32, float16 or bfloat16.
        stored: The checkpoint's tensors.
    """
    if dtype != "auto":
        return ASKED[dtype]
    named = str(getattr(config, "dtype", None) or "").removeprefix("torch.")
    first = next((FLOATS[tensor.format] for tensor in stored if tensor.format in FLOATS), 4)
    return ASKED.get(named, first)


def call_bytes(config: Any, itemsize: int) -> int:
    """Bytes that one call takes beside the weights: keys and values, one layer's activations, and the logits.

    Args:
        config: Of transformers; sizes that it does not name count as nothing.
        itemsize: Bytes of a number.
    """
    text = config.get_text_config()

    def size(*names: str) -> int:
        return next((value for name in names if isinstance(value := getattr(text, name, None), int)), 0)

    hidden, n_heads = size("hidden_size", "d_model", "n_embd"), size("num_attention_heads", "n_head")
    n_kv = size("num_key_value_heads") or n_heads
    head = size("head_dim") or hidden // max(1, n_heads)
    n_tokens = min(TOKENS, size("max_position_embeddings", "n_positions") or TOKENS)
    cache = 2 * size("num_hidden_layers", "n_layer") * n_kv * head
    layer = 4 * hidden + 3 * (size("intermediate_size") or 4 * hidden)
    return (cache + layer) * n_tokens * itemsize + 2 * 4 * size("vocab_size")
