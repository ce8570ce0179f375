"""How much faster a prompt is read when visual tokens go, on a random LLaVA of about 300 M parameters.

Run from the repository:

    python benchmarks/speed/pruning.py              # about 300 M parameters, some minutes on one core
    python benchmarks/speed/pruning.py --tiny       # seconds; the numbers mean nothing

Ratios are taken inside one run: every round measures all budgets after each other in process time, and the least time
of each counts. Prints one table: the measured ratio of the prefill, theory, the ratio with encoder and selection, the
cache. The last line says what listening to two layers of the vision tower costs, as a share of encoding.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from vlmtools.pruning._cost import saving
from vlmtools.pruning._tower import Listener, look_at_tower
from vlmtools.pruning.base import Needs
from vlmtools.pruning.grid import GridTokens

SHARES = (1.0, 1 / 3, 1 / 9)
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


def least(calls: Mapping[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """Least process time of each call, in seconds; the calls take turns.

    Args:
        calls: By name.
        rounds: How often all are run.
    """
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def prefill_times(
    model: Any, batch: dict[str, Any], rounds: int
) -> tuple[dict[float, float], dict[float, float]]:
    """(language model alone, with encoder and selection), in seconds by share kept.

    Args:
        model: The model.
        batch: Inputs.
        rounds: Of measuring.
    """
    n = model.config.image_seq_length

    def alone(share: float) -> Callable[[], object]:
        embeds = torch.randn(1, N_TEXT + round(share * n), model.config.text_config.hidden_size)
        return lambda: model.model.language_model(inputs_embeds=embeds, use_cache=True)

    def whole(share: float) -> Callable[[], object]:
        def call() -> None:
            with GridTokens(keep=share).attach(model):
                model(**batch, use_cache=True, logits_to_keep=1)

        return call

    return least({one: alone(one) for one in SHARES}, rounds), least(
        {one: whole(one) for one in SHARES}, rounds
    )


def listening(model: Any, batch: dict[str, Any], rounds: int) -> float:
    """What hearing column means of two layers adds to encoding, as a share.

    Args:
        model: The model.
        batch: Inputs.
        rounds: Of measuring.
    """
    from vlmtools.families._probe import anatomy

    parts = anatomy(model)
    tower = look_at_tower(parts)
    listener = Listener(parts, tower, Needs(received=(tower.near(0.4), -2)))
    handles = list(listener.install())

    def encode(is_on: bool) -> Callable[[], object]:
        def call() -> None:
            listener.start()
            listener.is_on = is_on
            model.model.get_image_features(batch["pixel_values"])

        return call

    times = least({one: encode(one) for one in (False, True)}, rounds)
    for handle in handles:
        handle.remove()
    return times[True] / times[False] - 1


def main() -> None:
    """Measure and print."""
    from transformers import LlavaForConditionalGeneration

    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--tiny", action="store_true", help="a test of this script")
    asked.add_argument("--rounds", type=int, default=6)
    given = asked.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_of(given.tiny)
    model = LlavaForConditionalGeneration(config).eval()
    batch, n = inputs_of(config), config.image_seq_length
    with torch.no_grad():
        prefill, whole = prefill_times(model, batch, given.rounds)
        extra = listening(model, batch, given.rounds)
    print(f"{sum(part.numel() for part in model.parameters()) / 1e6:.0f} M parameters, {n} visual tokens")
    print("kept  tokens  prefill  theory  with encoder  cache MB")
    for share in SHARES:
        kept = round(share * n)
        theory = saving(config, N_TEXT, n, kept, bytes_per_number=4)
        ratios = prefill[1.0] / prefill[share], theory.flops_ratio, whole[1.0] / whole[share]
        columns = "{:4.2f}  {:6d}  {:7.2f}  {:6.2f}  {:12.2f}  {:8.1f}"
        print(columns.format(share, kept, *ratios, theory.cache_after / 1e6))
    print(f"listening to two layers: {extra:+.1%} of encoding")


if __name__ == "__main__":
    main()
