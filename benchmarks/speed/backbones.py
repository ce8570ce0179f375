"""How many images per second every backbone reads, and its peak memory, beside a plain model of about the same size.

    python benchmarks/speed/backbones.py --tiny
    python benchmarks/speed/backbones.py --names smt_t,nat_tiny --batch 8 --rounds 10
    python benchmarks/speed/backbones.py --names smt_t --device cuda
    PYTHONPATH=../SMT python benchmarks/speed/backbones.py --names smt_t --against models.smt:SMT

The model beside it is Swin of transformers, or ViT where the backbone keeps one size of map, as many times wider or
narrower as its parameters say. The two take turns, round by round, in an order drawn anew, so that a busy machine slows
both; a ratio is taken within a round, and its median is shown. Peak memory is the GPU's; on the CPU it is the memory of
tensors that live at once in a forward pass, counted from the bytes that operators hand out. Weights are random, which
changes no time. `--against` puts the authors' own class, made with the variant's arguments, or what a function of$
gives in that model's place; its module must be importable.

`--tiny` times the tiny model of every architecture: it says nothing about real ones, only that everything runs.
Backbones that need timm are left out where it is not installed. `--record FILE` keeps the rows as JSON beside those
that are there; `scripts/write_docs.py` shows them.
"""

import argparse
import importlib
import json
import random
import statistics
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vlmtools import backbones, registry
from vlmtools.backbones.base import Backbone


@dataclass(frozen=True)
class Speed:
    """What one backbone costs.

    Args:
        name: Of the variant, or of the architecture whose tiny model it is.
        n_params: Its parameters.
        other_params: Those of the model beside it.
        per_second: Images per second, in the median round.
        ratio: The same over the other model's, the median of the rounds.
        peak_mib: Peak memory beside weights and images, in mebibytes.
        other_mib: The other model's.
        beside: Its name.
    """

    name: str
    n_params: int
    other_params: int
    per_second: float
    ratio: float
    peak_mib: float
    other_mib: float
    beside: str


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that live at once while it is on.

    Args:
        known: Tensors that were there before and do not count.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._seen: set[int] = {one.untyped_storage()._cdata for one in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator and note what it handed out."""
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, Tensor):
                self._note(one.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def beside(model: Backbone, size: int) -> nn.Module:
    """A plain model of about as many parameters.

    Args:
        model: The backbone.
        size: Side of the images in pixels.
    """
    wanted, flat = n_params(model), len({info["reduction"] for info in model.feature_info}) == 1
    widths = [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256]
    with torch.device("meta"):
        sizes = {width: n_params(_plain(flat, width, size)) for width in widths}
    return _plain(flat, min(widths, key=lambda width: abs(sizes[width] - wanted)), size)


def _plain(flat: bool, width: int, size: int) -> nn.Module:
    from transformers import SwinConfig, SwinModel, ViTConfig, ViTModel

    if flat:
        plain: nn.Module = ViTModel(
            ViTConfig(
                hidden_size=6 * width, intermediate_size=24 * width, num_attention_heads=2, num_hidden_layers=12,
                image_size=size, patch_size=16 if size >= 224 else 8,
            )
        )  # fmt: skip
        return plain
    config = SwinConfig(
        image_size=size, embed_dim=width, depths=[2, 2, 6, 2], num_heads=[1, 2, 4, 8],
        window_size=7 if size % 7 == 0 else max(1, size // 32),  # the last map must hold a window
    )  # fmt: skip
    windowed: nn.Module = SwinModel(config)
    return windowed


def n_params(model: nn.Module) -> int:
    """Parameters of a model."""
    return sum(weight.numel() for weight in model.parameters())


def timed(model: nn.Module, images: Tensor) -> float:
    """Seconds of one forward pass."""
    _wait(images)
    begin = time.perf_counter()
    with torch.no_grad():
        model(images)
    _wait(images)
    return time.perf_counter() - begin


def peak_mib(model: nn.Module, images: Tensor) -> float:
    """Mebibytes that a forward pass needs beside weights and images."""
    with torch.no_grad():
        if images.is_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            model(images)
            return float(torch.cuda.max_memory_allocated() - before) / 2**20
        with Held([images, *model.parameters(), *model.buffers()]) as held:
            model(images)
    return float(held.peak) / 2**20


def measure(
    name: str,
    model: Backbone,
    size: int,
    batch: int,
    rounds: int,
    device: str,
    other: nn.Module | None = None,
) -> Speed:
    """Time a backbone beside another model.

    Args:
        name: Shown in the table.
        model: The backbone.
        size: Side of the images in pixels.
        batch: Images per pass.
        rounds: Passes of each.
        device: cpu or cuda.
        other: The model beside it; None for a plain one of about the same size.
    """
    other = (beside(model, size) if other is None else other).to(device).eval()
    model = model.to(device).eval()
    images = torch.randn(batch, 3, size, size, device=device)
    for one in (model, other):
        timed(one, images)
    pairs = [_round(model, other, images) for _ in range(rounds)]
    return Speed(
        name,
        n_params(model),
        n_params(other),
        batch / statistics.median(ours for ours, _ in pairs),
        statistics.median(theirs / ours for ours, theirs in pairs),
        peak_mib(model, images),
        peak_mib(other, images),
        type(other).__name__,
    )


def _round(model: nn.Module, other: nn.Module, images: Tensor) -> tuple[float, float]:
    first = random.random() < 0.5
    a, b = (timed(one, images) for one in ((model, other) if first else (other, model)))
    return (a, b) if first else (b, a)


def chosen(names: Sequence[str], tiny: bool) -> Iterator[tuple[str, Backbone, int]]:
    """Name, model and size of the images, of every backbone asked for.

    Args:
        names: Variants, or architectures with `tiny`; empty for all architectures.
        tiny: Make the tiny model of each architecture.
    """
    for name in names or registry.names("vlmtools.backbones"):
        cls, args = backbones.find(name)
        if cls.needs and find_spec(cls.needs) is None:
            continue
        if tiny:
            yield name, cls.tiny(), cls.tiny_sizes[0]
        else:
            variant = cls.variants.get(name) or next(iter(cls.variants.values()), None)
            yield name, cls(**{**args, "in_chans": 3}), variant.size if variant else 224


def theirs(place: str, args: dict[str, Any]) -> nn.Module:
    """The authors' model.

    Args:
        place: Module and class, `models.smt:SMT`, or a function that needs no arguments, `transnext:transnext_micro`.
        args: Arguments of the class.
    """
    module, _, name = place.partition(":")
    made = getattr(importlib.import_module(module), name)
    model: nn.Module = made(**args) if isinstance(made, type) else made()
    return model


def record(path: Path, rows: Sequence[Speed], setting: str) -> None:
    """Keep rows in a file, in the place of older ones of the same backbone, model beside it and setting.

    Args:
        path: JSON; made where it is not there.
        rows: To keep.
        setting: Batch, device and threads.
    """
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    new = [{**asdict(row), "setting": setting} for row in rows]
    keys = ("name", "beside", "setting")
    taken = {tuple(row[key] for key in keys) for row in new}
    kept = [row for row in old if tuple(row[key] for key in keys) not in taken]
    whole = sorted([*kept, *new], key=lambda row: tuple(row[key] for key in keys))
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8", newline="\n")


def _wait(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    """Print one line per backbone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--names", default="", help="variants, separated by commas; all architectures without it"
    )
    parser.add_argument("--tiny", action="store_true", help="the tiny model of each architecture")
    parser.add_argument("--batch", type=int, default=4, help="images per pass")
    parser.add_argument("--rounds", type=int, default=7, help="passes of each model")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--against", default="", help="the authors' class or function, models.smt:SMT")
    parser.add_argument("--record", type=Path, help="JSON file to keep the rows in")
    given = parser.parse_args()
    setting = f"{'tiny, ' * given.tiny}batch {given.batch}, {given.device}, {torch.get_num_threads()} threads"
    print(
        f"{'name':<28}{'parameters':>14}{'beside':>14}{'images/s':>12}{'ratio':>8}{'peak MiB':>10}{'beside':>10}"
    )
    for name, model, size in chosen([one for one in given.names.split(",") if one], given.tiny):
        other = theirs(given.against, backbones.find(name)[1]) if given.against else None
        row = measure(name, model, size, given.batch, given.rounds, given.device, other)
        print(
            f"{row.name:<28}{row.n_params:>14,}{row.other_params:>14,}{row.per_second:>12.1f}{row.ratio:>8.2f}"
            f"{row.peak_mib:>10.1f}{row.other_mib:>10.1f}",
            flush=True,
        )
        if given.record:
            record(given.record, [row], setting)


if __name__ == "__main__":
    main()
