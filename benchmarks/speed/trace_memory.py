"""How much memory a trace of attention mass takes, and how much full attention maps would take.

    python benchmarks/speed/trace_memory.py
    python benchmarks/speed/trace_memory.py --layers 4 --tokens 512

A random LLaVA with the number of layers, heads and tokens of LLaVA-NeXT 7B but narrow heads, so that it runs on any
CPU. The same prompt is read twice in processes of their own, without a trace and with one, and the peaks of resident
memory are compared. The row that is recomputed in every layer has heads × keys weights.

Expected: less than 50 MiB more with the trace, where full maps in half precision would take 16.5 GiB.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

from vlmtools.trace import Trace, maps_gib

PER_MIB = 1024 if sys.platform != "darwin" else 1024**2
"""Units of the peak that the operating system reports, in a MiB."""


def model_of(layers: int, heads: int, width: int) -> Any:
    """A random LLaVA of this shape.

    Args:
        layers: Decoder layers.
        heads: Query heads of a layer.
        width: Width of a head.
    """
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    text = {
        "model_type": "llama", "vocab_size": 128, "hidden_size": heads * width, "intermediate_size": 64,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads,
        "max_position_embeddings": 8192,
    }  # fmt: skip
    vision = {
        "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "projection_dim": 16,
    }  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=127)
    ).eval()


def read(layers: int, heads: int, tokens: int, width: int, traced: bool) -> dict[str, float]:
    """Read one prompt of image tokens and a few words; peak of resident memory before and after, and seconds.

    Args:
        layers: Decoder layers.
        heads: Query heads of a layer.
        tokens: Of the prompt.
        width: Width of a head.
        traced: Trace the attention mass.
    """
    import torch

    model = model_of(layers, heads, width)
    ids = torch.full((1, tokens), 127)
    ids[:, :1], ids[:, -63:] = 1, 5
    # features stand in for the picture, so that the tower plays no part
    embeds = model.get_input_embeddings()(ids)
    with torch.no_grad():
        model.model.language_model(
            inputs_embeds=embeds[:, :64], use_cache=False
        )  # libraries loaded, threads started
        model.model.get_image_features = lambda *_, **__: _Features(embeds[0, 1:-63])
        begin, clock = _peak_mib(), time.perf_counter()
        seen: Any = Trace(model) if traced else nullcontext()
        with seen:
            model(input_ids=ids, pixel_values=torch.zeros(1, 3, 8, 8), use_cache=False, logits_to_keep=1)
    took = time.perf_counter() - clock
    found = {"before_mib": begin, "peak_mib": _peak_mib(), "seconds": took}
    return found | ({"mass": float(seen.mass.mean())} if traced else {})


class _Features:
    """What a vision tower hands back."""

    def __init__(self, features: Any) -> None:
        self.pooler_output = [features]


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PER_MIB


def compare(layers: int, heads: int, tokens: int, width: int = 4) -> dict[str, float]:
    """Peaks without and with a trace, each in a new process.

    Args:
        layers: Decoder layers.
        heads: Query heads of a layer.
        tokens: Of the prompt.
        width: Width of a head.
    """
    shape = [f"--layers={layers}", f"--heads={heads}", f"--tokens={tokens}", f"--width={width}"]
    runs = [_run([*shape, "--only", which]) for which in ("plain", "traced")]
    return {
        "plain_mib": runs[0]["peak_mib"],
        "traced_mib": runs[1]["peak_mib"],
        "extra_mib": runs[1]["peak_mib"] - runs[0]["peak_mib"],
        "maps_gib": maps_gib(layers, heads, tokens),
        "plain_s": runs[0]["seconds"],
        "traced_s": runs[1]["seconds"],
        "mass": runs[1]["mass"],
    }


def _run(options: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=2944)
    parser.add_argument("--width", type=int, default=4, help="of a head")
    parser.add_argument("--only", choices=("plain", "traced"), help="one run in this process, as JSON")
    args = parser.parse_args()
    shape = (args.layers, args.heads, args.tokens, args.width)
    if args.only:
        print(json.dumps(read(*shape, traced=args.only == "traced")))
        return
    found = compare(*shape)
    print(f"{args.layers} layers × {args.heads} heads, {args.tokens:,} tokens")
    print(f"peak without trace   {found['plain_mib']:10.1f} MiB {found['plain_s']:8.2f} s")
    print(f"peak with trace      {found['traced_mib']:10.1f} MiB {found['traced_s']:8.2f} s")
    print(f"extra                {found['extra_mib']:10.1f} MiB")
    print(f"full maps would take {found['maps_gib']:10.2f} GiB in half precision")


if __name__ == "__main__":
    main()
