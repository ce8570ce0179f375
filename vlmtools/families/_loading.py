"""Load the configuration and the weights of a checkpoint: safetensors only, no code unless asked."""

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmtools.errors import BadInput

QUANTS = ("4bit", "8bit")
DTYPES = ("auto", "float32", "float16", "bfloat16")


def load_config(name: str, hub: dict[str, Any]) -> Any:
    """The configuration of a checkpoint.

    Raises:
        BadInput: There is no such model, or it wants to run code.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, **hub)
    except (OSError, ValueError) as error:
        raise BadInput(_advice(name, error, hub)) from error


def load_model(
    name: str, config: Any, dtype: str, device_map: str | None, quant: str | None, hub: dict[str, Any]
) -> Any:
    """The model, its weights read from safetensors.

    Raises:
        BadInput: It cannot be loaded, or not safely.
    """
    options = {"dtype": dtype, "device_map": device_map, "use_safetensors": True, "config": config}
    if quant:
        options["quantization_config"] = _quantisation(quant, dtype)
    try:
        with _quiet_unless_watched():
            model = _auto_class(config).from_pretrained(name, **options, **hub)
    except (OSError, ValueError) as error:
        raise BadInput(_advice(name, error, hub)) from error
    if quant == "4bit":
        spare_odd_sizes(model)
    return model


def spare_odd_sizes(model: Any) -> int:
    """Keep 4-bit layers of odd size from a CPU kernel of bitsandbytes that cannot take them; returns how many.

    On a processor with AVX512-BF16 bitsandbytes packs every layer anew in its first pass, and fails there unless the
    outputs are a multiple of 32 and the inputs one of the block size. Layers left out are unpacked as elsewhere.

    Args:
        model: With 4-bit layers, before its first pass.
    """
    odd = [
        part
        for part in model.modules()
        if getattr(part, "support_avx512bf16_for_cpu", False)
        and (state := getattr(part.weight, "quant_state", None)) is not None
        and (state.shape[0] % 32 or state.shape[1] % state.blocksize)
    ]
    for part in odd:
        part.support_avx512bf16_for_cpu = False
    return len(odd)


def _auto_class(config: Any) -> Any:
    """The auto class for models that see, or the one for text only."""
    import transformers

    remote = getattr(config, "auto_map", None) or {}
    for kind in ("ImageTextToText", "MultimodalLM"):
        mapping = getattr(
            transformers,
            f"MODEL_FOR_{'IMAGE_TEXT_TO_TEXT' if kind[0] == 'I' else 'MULTIMODAL_LM'}_MAPPING",
            {},
        )
        if type(config) in mapping or f"AutoModelFor{kind}" in remote:
            return getattr(transformers, f"AutoModelFor{kind}")
    return transformers.AutoModelForCausalLM


def _quantisation(quant: str, dtype: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if quant == "8bit":
        # it says for every layer and call that it works in float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def check_options(dtype: str, quant: str | None) -> None:
    """Refuse a dtype or a quantisation that does not exist, before anything is loaded.

    Raises:
        BadInput: It does not exist.
    """
    if dtype not in DTYPES:
        raise BadInput(f"There is no dtype {dtype!r}. There is: {', '.join(DTYPES)}.")
    if quant is not None and quant not in QUANTS:
        raise BadInput(
            f"There is no quantisation {quant!r}. There is: {', '.join(QUANTS)}. Leave it out for none."
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder without a model, or with pickled weights only; a hub name passes.

    Raises:
        BadInput: It is such a folder.
    """
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"The folder {str(folder)!r} holds no config.json. Name the folder that save_pretrained wrote."
        )
    if not any(folder.glob("*.safetensors")):
        found = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "no weights"
        raise BadInput(
            f"The folder {str(folder)!r} holds {found} and no *.safetensors. Pickled weights can run code and are "
            "not loaded. Convert them where you trust them: model.save_pretrained(folder)."
        )


def _advice(name: str, error: Exception, hub: dict[str, Any]) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        hint = (
            "It comes with its own Python code. Read it and, when you trust it, pass trust_remote_code=True."
        )
    elif "safetensors" in text:
        hint = "Only safetensors are loaded: pickled weights can run code. Choose a revision that has them."
    elif hub["local_files_only"]:
        hint = (
            "Only files already on this machine may be used. Download it first (hf download), or go online."
        )
    else:
        hint = "Give a folder written by save_pretrained or a hub name such as llava-hf/llava-1.5-7b-hf."
    first = next((line for line in text.splitlines() if line.strip()), repr(error))
    return f"The model {name!r} cannot be loaded: {first} {hint}"


def is_out_of_memory(error: Exception) -> bool:
    """True when a device or the machine has no memory left."""
    import torch

    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
    )


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _quiet_unless_watched() -> Iterator[None]:
    """Keep the loading bars of transformers out of pipes and log files."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    if shown and not sys.stderr.isatty():
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
