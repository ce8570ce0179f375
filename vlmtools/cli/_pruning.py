"""What `vlmtools bench prune` prints."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from vlmtools.pruning._measured import Measured
    from vlmtools.pruning.base import TokenPruner
    from vlmtools.vlm import VLM


def show_savings(
    vlm: "VLM",
    pruner: "TokenPruner",
    keeps: Sequence[float],
    asked: Mapping[str, Any],
    side: int,
    n_new: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Measure, and print a table or a record.

    Args:
        vlm: The model.
        pruner: The method.
        keeps: Budgets.
        asked: Model, pruner, picture and prompt as they were typed.
        side: Of the noise that stands for a picture.
        n_new: New tokens of an answer.
        rounds: Of measuring.
        as_json: Print a record.
    """
    from vlmtools.cli._screen import print_json
    from vlmtools.media import load_image
    from vlmtools.pruning._bench import measure, noise_picture
    from vlmtools.pruning._measured import screen

    typed = asked["image"]
    noise = typed == f"noise {side}"
    picture = noise_picture(side) if noise else load_image(typed)
    batch = vlm.inputs([vlm.chat(str(asked["prompt"]), True)], [picture])
    load = _load()
    rows = measure(vlm.model, dict(batch), pruner, keeps, n_new=n_new, rounds=rounds)
    record = {**asked, **_machine(vlm.model), "rounds": rounds, "new_tokens": n_new, "load": [load, _load()]}
    if as_json:
        print_json({**record, "rows": [_plain(row) for row in rows]})
        return
    typer.echo(screen(rows))
    typer.echo(_note(rows, record))


def _note(rows: "Sequence[Measured]", record: Mapping[str, Any]) -> str:
    hidden = any(math.isnan(row.facts.flops) for row in rows)
    why = " Kernels that hide their operations (4-bit weights) show nan." if hidden else ""
    busy = f" Load of the machine {record['load'][0]:.1f} before, {record['load'][1]:.1f} after."
    return (
        f"{record['device']}, {record['dtype']}, {record['threads']} threads; medians of {record['rounds']} rounds, "
        f"answers of {record['new_tokens']} tokens. Prefill is the language model alone; first token holds encoder and "
        f"selection too. Theory counts each query against half of the keys, kernels may count all.{why}{busy}"
    )


def _machine(model: Any) -> dict[str, Any]:
    import torch

    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
    return {
        "device": device,
        "dtype": str(model.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan


def _plain(row: "Measured") -> dict[str, Any]:
    from dataclasses import asdict

    found = asdict(row)
    counted = found["facts"]["flops"]
    found["facts"]["flops"] = None if math.isnan(counted) else counted
    return found
