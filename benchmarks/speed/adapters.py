"""What every connector and adapter costs in training, beside a LoRA of about the same size measured in the same minute.

    python benchmarks/speed/adapters.py --tiny
    python benchmarks/speed/adapters.py --model path/to/vlm --adapters mlp moh qformer:n_queries=64 --repeat 10

Each line: trained parameters; the time of one step (forward and backward, the fastest of `--repeat`; on a CPU the time
of the process, summed over its threads); the bytes kept between forward and backward, counted from what autograd saves,
each storage once; and all three as ratios to the LoRA, whose rank is chosen so that its size is closest. The two take
turns, step by step, so that a busy machine slows both.

`--tiny` uses each part's own tiny host: its times say nothing about real models, only that everything runs.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlmtools import registry
from vlmtools.adapters.base import Part
from vlmtools.errors import CannotAttach

Batch = Mapping[str, Tensor]
WIDTH = 56
"""Of the first column."""
PROMPT, ANSWER = "What is in the picture?", " A dog and a cat."


@dataclass(frozen=True)
class Cost:
    """What one part costs.

    Args:
        name: Of the part, with its settings.
        n_trained: Trained parameters.
        step_s: Seconds of the fastest step.
        kept_mib: Mebibytes kept for the backward pass.
    """

    name: str
    n_trained: int
    step_s: float
    kept_mib: float


def size(part: Part, host: Any) -> int:
    """Trained parameters of a part; it is attached for the count, and detached again.

    Args:
        part: Not attached.
        host: The model.
    """
    with part.attach(host):
        return sum(one.numel() for one in host.parameters() if one.requires_grad)


def equal_lora(n: int, host: Any) -> Part:
    """The LoRA whose size is closest to `n`.

    Args:
        n: Trained parameters.
        host: The model.
    """
    kind: Any = registry.load("vlmtools.adapters", "lora", Part)
    per_rank = size(kind(rank=1), host)
    found: Part = kind(rank=max(1, round(n / per_rank)))
    return found


def step(part: Part, host: Any, batch: Batch) -> tuple[float, float]:
    """One training step: seconds, and mebibytes kept for the backward pass.

    Args:
        part: Not attached.
        host: The model.
        batch: Inputs of its forward.
    """
    kept: dict[int, int] = {}

    def pack(one: Tensor) -> Tensor:
        storage = one.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return one

    weights = {one.untyped_storage().data_ptr() for one in host.parameters()}
    with part.attach(host.train()):
        _wait()
        begin = _clock()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one):
            loss = _loss(host(**batch)) + part.aux_loss().to(next(host.parameters()).device)
        loss.backward()  # type: ignore[no-untyped-call]
        _wait()
        seconds = _clock() - begin
        weights |= {one.untyped_storage().data_ptr() for one in host.parameters()}
        for one in host.parameters():
            one.grad = None
    return seconds, sum(n for where, n in kept.items() if where not in weights) / 2**20


def _loss(output: Any) -> Tensor:
    values = output if isinstance(output, Mapping) else {"out": output}
    first = next(one for one in values.values() if isinstance(one, Tensor) and one.is_floating_point())
    return first.float().square().mean()


def _clock() -> float:
    """Seconds; on a CPU those of this process, so that a busy machine lengthens a step less."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(parts: Mapping[str, Part], host: Any, batch: Batch, repeat: int) -> list[Cost]:
    """Costs of several parts that take turns.

    Args:
        parts: What each is called → the part, not attached.
        host: The model.
        batch: Inputs of its forward.
        repeat: Rounds that count; one more comes before them.
    """
    rounds = [[step(part, host, batch) for part in parts.values()] for _ in range(repeat + 1)][1:]
    return [
        Cost(name, size(part, host), min(one[i][0] for one in rounds), min(one[i][1] for one in rounds))
        for i, (name, part) in enumerate(parts.items())
    ]


def measured(
    labels: Sequence[str], model: str | None, repeat: int, n_rows: int
) -> Iterator[tuple[Cost, Cost] | str]:
    """For each part its costs and those of its LoRA, or why there are none.

    Args:
        labels: Connectors and adapters, as `name` or `name:key=value,…`.
        model: Folder or name of a model; None takes the tiny hosts.
        repeat: Rounds.
        n_rows: Rows of the batch; the tiny hosts have their own.
    """
    loaded = _loaded(model, n_rows) if model is not None else None
    for label in labels:
        name, _, settings = label.partition(":")
        kind = registry.load("vlmtools.adapters", name, Part)  # type: ignore[type-abstract]
        host, batch = loaded if loaded is not None else kind.tiny_host()
        part = kind(**registry.settings(kind, settings)) if settings or loaded is not None else kind.tiny()
        try:
            lora = equal_lora(size(part, host), host)
            mine, theirs = compare({label: part, "its lora": lora}, host, batch, repeat)
            yield mine, theirs
        except (CannotAttach, ValueError) as problem:
            yield f"{label:<{WIDTH}}not on this model: {problem}"


def _loaded(model: str, n_rows: int) -> tuple[nn.Module, Batch]:
    import numpy as np
    from PIL import Image

    import vlmtools as vt

    vlm = vt.load(model)
    noise = np.random.default_rng(0).integers(0, 256, (336, 336, 3), dtype=np.uint8)
    text = vlm.chat(PROMPT, with_image=True) + ANSWER
    return vlm.model, dict(vlm.inputs([text] * n_rows, [Image.fromarray(noise)] * n_rows))


def line(mine: Cost, lora: Cost) -> str:
    """One row of the table.

    Args:
        mine: The part.
        lora: The LoRA beside it.
    """
    return (
        f"{mine.name:<{WIDTH}}{mine.n_trained:>14,}{mine.step_s * 1e3:>10.1f}{mine.kept_mib:>10.2f}"
        f"{mine.n_trained / lora.n_trained:>10.2f}{mine.step_s / lora.step_s:>10.2f}"
        f"{mine.kept_mib / max(lora.kept_mib, 1e-9):>10.2f}"
    )


HEADER = f"{'part':<{WIDTH}}{'trained':>14}{'step, ms':>10}{'kept, MiB':>10}{'size /':>10}{'time /':>10}{'kept /':>10}"


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="folder or name of a vision-language model")
    parser.add_argument("--tiny", action="store_true", help="each part's tiny host instead")
    parser.add_argument("--adapters", nargs="*", help="names, or name:key=value,…; all if left out")
    parser.add_argument("--repeat", type=int, default=5, help="steps per part")
    parser.add_argument("--rows", type=int, default=4, help="rows of a batch, each with a picture")
    args = parser.parse_args(words)
    if args.tiny == bool(args.model):
        raise SystemExit("Give --tiny, or --model with a folder or a name.")
    labels = args.adapters or registry.names("vlmtools.adapters")
    where = "tiny hosts" if args.tiny else Path(args.model).name
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    rows = "their own batches" if args.tiny else f"{args.rows} rows"
    print(
        f"{where}, {rows}, {device}; the last three columns are ratios to a LoRA of about that size\n{HEADER}"
    )
    for found in measured(labels, args.model, args.repeat, args.rows):
        print(found if isinstance(found, str) else line(*found), flush=True)


if __name__ == "__main__":
    main()
