"""How much faster a prompt is read when visual tokens go, on a random LLaVA of about 300 M parameters.

    python benchmarks/speed/pruning.py              # about 300 M parameters, some minutes on one core
    python benchmarks/speed/pruning.py --only grid  # one method
    python benchmarks/speed/pruning.py --tiny       # seconds; the numbers mean nothing

All budgets take turns in one run, in process time on one thread, and ratios are those within a round, with 95 %
intervals over the rounds; `again` is the unpruned model once more and shows the noise. Prints Markdown for
docs/pruning.md: the table of `vlmtools bench prune` for HiPrune and for grid, which costs nothing to select, and what
listening to two layers of the vision tower costs beside encoding. `vlmtools bench prune MODEL` does the same for a
model of your own.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from vlmtools.families._probe import anatomy
from vlmtools.pruning._bench import measure, ratio
from vlmtools.pruning._measured import HEADINGS, Measured, Ratio, cells
from vlmtools.pruning._spec import parse_method
from vlmtools.pruning._tower import Listener, look_at_tower
from vlmtools.pruning.base import Needs

SHARES = (1 / 3, 2 / 9, 1 / 9)
"""192, 128 and 64 of 576 tokens."""
N_TEXT = 40


def config_of(tiny: bool) -> Any:
    """A CLIP tower and a Llama.

    Args:
        tiny: Small enough for a test.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    width, layers, inner = (64, 3, 128) if tiny else (1024, 16, 2816)
    side, tower, vision = (8, 64, 3) if tiny else (24, 768, 12)
    text = LlamaConfig(
        vocab_size=1000, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // 64 or 1, num_key_value_heads=width // 64 or 1, max_position_embeddings=4096,
    )  # fmt: skip
    seen = CLIPVisionConfig(
        hidden_size=tower, intermediate_size=4 * tower, num_hidden_layers=vision, image_size=14 * side,
        num_attention_heads=tower // 64, patch_size=14,
    )  # fmt: skip
    return LlavaConfig(
        text_config=text, vision_config=seen, image_token_index=999, image_seq_length=side * side
    )


def inputs_of(config: Any) -> dict[str, Any]:
    """One prompt with one random picture.

    Args:
        config: Of the model.
    """
    size = config.vision_config.image_size
    ids = torch.tensor([[1, *[config.image_token_id] * config.image_seq_length, *range(3, N_TEXT + 2)]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)),
    }


def listening(model: Any, batch: dict[str, Any], rounds: int) -> Ratio:
    """Time of encoding alone over time of encoding while column means of two layers are heard, as a ratio.

    Args:
        model: The model.
        batch: Inputs.
        rounds: Of measuring.
    """
    parts = anatomy(model)
    tower = look_at_tower(parts)
    listener = Listener(parts, tower, Needs(received=(tower.near(0.4), -2)))

    def encode() -> None:
        listener.start()
        model.model.get_image_features(batch["pixel_values"])

    def heard() -> float:
        handles = list(listener.install())
        try:
            return _seconds(encode)
        finally:
            for handle in handles:
                handle.remove()

    _seconds(encode), heard()
    times = [_taken_in_turn(encode, heard, first=turn % 2) for turn in range(2 * rounds)]
    return ratio([plain for plain, _ in times], [slow for _, slow in times])


def _taken_in_turn(
    plain: Callable[[], object], heard: Callable[[], float], first: int
) -> tuple[float, float]:
    """Seconds of both, the second one first in every other round: what drifts hits both."""
    if first:
        slow = heard()
        return _seconds(plain), slow
    return _seconds(plain), heard()


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def block(found: dict[str, list[Measured]], heard: Ratio, told: str) -> str:
    """Markdown for the documentation.

    Args:
        found: Pruner → its budgets.
        heard: Of `listening`.
        told: Where and how it was measured.
    """
    head = [f"| method | {' | '.join(HEADINGS)} |", f"|{'---|' * (1 + len(HEADINGS))}"]
    rows = [f"| {name} | {' | '.join(cells(row))} |" for name, many in found.items() for row in many]
    extra = ", ".join(f"{100 * (1 / one - 1):+.1f}" for one in (heard.value, heard.high, heard.low))
    line = "Listening to two layers adds {} % [{}, {}] to encoding.".format(*extra.split(", "))
    return "\n".join([told, "", *head, *rows, "", line])


def main() -> None:
    """Measure and print."""
    from transformers import LlavaForConditionalGeneration

    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--tiny", action="store_true", help="a test of this script")
    asked.add_argument("--only", nargs="*", default=["hiprune", "grid"], help="NAME or NAME:key=value,…")
    asked.add_argument("--rounds", type=int, default=8)
    asked.add_argument("--tokens", type=int, default=16, help="new tokens per answer")
    given = asked.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, busy = config_of(given.tiny), os.getloadavg()[0]
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    batch, options = inputs_of(config), {"n_new": given.tokens, "rounds": given.rounds}
    found = {
        name: measure(model, batch, parse_method(name), SHARES, clock=time.process_time, **options)
        for name in given.only
    }
    with torch.no_grad():
        heard = listening(model, batch, given.rounds)
    size = sum(part.numel() for part in model.parameters()) / 1e6
    print(block(found, heard, (
        f"{size:.0f} M random parameters, {config.image_seq_length} visual and {N_TEXT} text tokens, answers of "
        f"{given.tokens} tokens, float32, one CPU thread, {given.rounds} rounds, torch {torch.__version__}; load of "
        f"the machine {busy:.1f} before, {os.getloadavg()[0]:.1f} after."
    )))  # fmt: skip


if __name__ == "__main__":
    main()
