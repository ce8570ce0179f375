"""What patches cost: time per new token, time of the prefill and peak memory, beside the unpatched model.

    python benchmarks/speed/patching.py                       # about 0.3 billion random parameters, on the CPU
    python benchmarks/speed/patching.py --patch vhr --patch pai:contrast=1.1 --rounds 12
    python benchmarks/speed/patching.py --gpu                 # the shape of LLaVA-1.5-7B in bfloat16, needs 16 GiB

Every way runs in one process on one model, in turn, round after round, in an order that is drawn anew each time, so
that what slows the machine slows all of them. A round's time per token is the median over its tokens; a ratio is taken
within a round; the interval is a bootstrap over the rounds of the mean log ratio. `again` is the unpatched model a
second time: its interval shows the noise. Weights are random, which changes no time. Peak memory counts the loaded
model too, and on the CPU, where Linux tells it, the whole process.
"""

import argparse
import contextlib
import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vlmtools.patches._files import parse_patches
from vlmtools.patches.base import Patch
from vlmtools.stats.resample import item_counts, percentile

SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "text": {
            "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16, "num_attention_heads": 16,
            "num_key_value_heads": 16, "vocab_size": 32064,
        },
        "vision": {
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6,
        },
    },
    "llava-1.5-7b": {
        "text": {
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 32, "vocab_size": 32064,
        },
        "vision": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        },
    },
}  # fmt: skip
"""Name → shape; both cut pictures into patches of 14 × 14 pixels, one image token each."""


@dataclass(frozen=True, slots=True)
class Run:
    """One call of `generate`.

    Args:
        prefill_s: Until the first new token.
        token_s: Median over the others.
        peak_mib: Most memory used; NaN when unknown.
    """

    prefill_s: float = 0.0
    token_s: float = 0.0
    peak_mib: float = float("nan")


@dataclass(slots=True)
class Clock:
    """A stopping criterion that never stops and writes down when each token came."""

    sync: Callable[[], object] = lambda: None
    times: list[float] = field(default_factory=list)

    def __call__(self, input_ids: Any, *_args: Any, **_kwargs: Any) -> Any:  # noqa: D102 - as transformers calls it
        import torch

        self.sync()
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def build(shape: str, dtype: str, device: str, pixels: int) -> Any:
    """A random LLaVA of that shape."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    parts = SHAPES[shape]
    config = LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model", "image_size": pixels, "patch_size": 14, "projection_dim": 768,
            **parts["vision"],
        },
        text_config={"model_type": "llama", "max_position_embeddings": 4096, **parts["text"]},
        image_token_index=32000,
        image_seq_length=(pixels // 14) ** 2,
    )  # fmt: skip
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model: Any = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    return model.eval()


def prompt(model: Any, n_text: int) -> dict[str, Any]:
    """One picture of noise and some text tokens."""
    import torch

    generator = torch.Generator().manual_seed(0)
    text = torch.randint(5, 30000, (1, n_text), generator=generator)
    side = model.config.vision_config.image_size
    image = torch.full((1, model.config.image_seq_length), model.config.image_token_id)
    ids = torch.cat([text[:, :10], image, text[:, 10:]], 1)
    pixels = torch.randn(1, 3, side, side, generator=generator).to(model.dtype)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    return {name: value.to(model.device) for name, value in inputs.items()}


def run(model: Any, inputs: dict[str, Any], n_new: int, memory: "Memory") -> Run:
    """Time one answer of `n_new` tokens."""
    clock = Clock(memory.sync)
    memory.start()
    begin = time.perf_counter()
    model.generate(**inputs, do_sample=False, max_new_tokens=n_new, stopping_criteria=[clock])
    peak = memory.peak_mib()
    steps = np.diff(clock.times)
    return Run(clock.times[0] - begin, float(np.median(steps)), peak)


class Memory:
    """Peak memory between `start` and `peak_mib`, the loaded model included.

    Args:
        device: cpu or cuda.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def sync(self) -> None:
        """Wait until the device has done everything."""
        if self.cuda:
            import torch

            torch.cuda.synchronize()

    def start(self) -> None:
        """Forget earlier peaks."""
        import gc

        gc.collect()
        if self.cuda:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        with contextlib.suppress(OSError, AttributeError):
            # hand freed memory back, or a peak inside it would not show; then forget the earlier peak
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        """The highest so far."""
        self.sync()
        if self.cuda:
            import torch

            return float(torch.cuda.max_memory_allocated() / 2**20)
        return _resident("VmHWM")


def _resident(what: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), float("nan"))


@contextlib.contextmanager
def eager(model: Any) -> Iterator[None]:
    """The attention that other implementations of such methods ask for."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def ways(model: Any, patches: Sequence[Patch]) -> dict[str, Callable[[], Any]]:
    """Name → a context in which to run; the unpatched model comes twice."""
    plain: dict[str, Callable[[], Any]] = {
        "unpatched": contextlib.nullcontext,
        "again": contextlib.nullcontext,
    }
    named = {one.name: (lambda one=one: one.attach(model)) for one in patches}
    return {**plain, **named, "eager": lambda: eager(model)}


def ratio(runs: Sequence[float], base: Sequence[float], n_boot: int = 10_000) -> tuple[float, float, float]:
    """Geometric mean of the rounds' ratios, with its 95 % interval."""
    logs = np.log(np.asarray(runs) / np.asarray(base))
    counts = item_counts(len(logs), n_boot)
    low, high = percentile(counts @ logs / len(logs), n_items=len(logs))
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def report(found: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """One row per way."""
    base, rows = found["unpatched"], []
    for name, runs in found.items():
        row: dict[str, Any] = {
            "way": name,
            "token_ms": 1e3 * float(np.median([one.token_s for one in runs])),
            "prefill_ms": 1e3 * float(np.median([one.prefill_s for one in runs])),
            "peak_mib": float(np.median([one.peak_mib for one in runs])),
        }
        if name != "unpatched":
            row["token"] = ratio([one.token_s for one in runs], [one.token_s for one in base])
            row["prefill"] = ratio([one.prefill_s for one in runs], [one.prefill_s for one in base])
            row["peak"] = row["peak_mib"] / float(np.median([one.peak_mib for one in base]))
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    head = f"{'':<12}{'ms/token':>9}  {'ratio [95 %]':<21}{'prefill ms':>11}  {'ratio [95 %]':<21}{'peak MiB':>9}"
    print(f"{head}  ratio")
    for row in rows:
        token, prefill = (_interval(row[name]) if name in row else "" for name in ("token", "prefill"))
        peak = f"{row['peak']:.2f}" if "peak" in row else ""
        print(
            f"{row['way']:<12}{row['token_ms']:>9.1f}  {token:<21}{row['prefill_ms']:>11.0f}  {prefill:<21}"
            f"{row['peak_mib']:>9.0f}  {peak}".rstrip()
        )


def _interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


def measure(
    model: Any, patches: Sequence[Patch], n_rounds: int, n_new: int, n_text: int
) -> dict[str, list[Run]]:
    """Every way once per round, in an order drawn anew, after a warm-up."""
    memory, inputs = Memory(model.device.type), prompt(model, n_text)
    todo = ways(model, patches)
    found: dict[str, list[Run]] = {name: [] for name in todo}
    order = np.random.default_rng(0)
    for name in todo if model.device.type == "cuda" else ["unpatched"]:
        with todo[name]():
            run(model, inputs, 3, memory)
    for _ in range(n_rounds):
        for name in order.permutation(list(todo)):
            with todo[name]():
                found[name].append(run(model, inputs, n_new, memory))
    return found


def main() -> None:
    """Measure and print."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patch", action="append", help="NAME or NAME:key=value,…; default: vhr and pai")
    parser.add_argument("--rounds", type=int, default=6, help="measured rounds")
    parser.add_argument("--tokens", type=int, default=16, help="new tokens per answer")
    parser.add_argument("--text", type=int, default=40, help="text tokens of the prompt")
    parser.add_argument(
        "--pixels", type=int, help="side of the picture, a multiple of 14; default: 224, --gpu 336"
    )
    parser.add_argument("--threads", type=int, help="on the CPU; default: one per core")
    parser.add_argument("--shape", choices=list(SHAPES), help="default: small; with --gpu llava-1.5-7b")
    parser.add_argument("--dtype", help="default: float32; with --gpu bfloat16")
    parser.add_argument("--gpu", action="store_true", help="on the first GPU, LLaVA-1.5-7B in bfloat16")
    parser.add_argument("--json", type=Path, help="also write every run there")
    args = parser.parse_args()

    shape = args.shape or ("llava-1.5-7b" if args.gpu else "small")
    dtype = args.dtype or ("bfloat16" if args.gpu else "float32")
    if args.threads:
        torch.set_num_threads(args.threads)
    model = build(shape, dtype, "cuda" if args.gpu else "cpu", args.pixels or (336 if args.gpu else 224))
    size = sum(part.numel() for part in model.parameters()) / 1e9
    where = torch.cuda.get_device_name() if args.gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{shape}: {size:.2f} billion random parameters, {dtype}, torch {torch.__version__}, {where}")
    n_image = model.config.image_seq_length
    print(f"{n_image} image and {args.text} text tokens, {args.tokens} new ones, {args.rounds} rounds")
    busy, begin = os.getloadavg()[0], time.perf_counter()
    patches = parse_patches(args.patch or ["vhr", "pai"])
    found = measure(model, patches, args.rounds, args.tokens, args.text)
    show(report(found))
    took, after = time.perf_counter() - begin, os.getloadavg()[0]
    print(f"{took:.0f} s; load of the machine {busy:.1f} before and {after:.1f} after")
    if args.json:
        args.json.write_text(
            json.dumps({name: [asdict(one) for one in runs] for name, runs in found.items()})
        )


if __name__ == "__main__":
    main()
