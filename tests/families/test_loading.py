"""What happens to a checkpoint's layers after they were read."""

import pytest
import torch
from torch import nn

from vlmtools.families._loading import spare_odd_sizes


def test_four_bit_layers_of_odd_size_are_kept_from_the_packing_kernel_and_others_are_not() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")

    def four_bit(n_in: int, n_out: int) -> nn.Module:
        layer: nn.Module = bitsandbytes.nn.Linear4bit(n_in, n_out, compute_dtype=torch.float32).to("cpu")
        layer.support_avx512bf16_for_cpu = True  # as on a processor that has it
        return layer

    model = nn.ModuleDict(
        {
            "fits": four_bit(128, 64),
            "few outputs": four_bit(64, 16),
            "inputs within a block": four_bit(32, 64),
            "plain": nn.Linear(3, 3),
        }
    )
    assert spare_odd_sizes(model) == 2
    packs = {name: getattr(part, "support_avx512bf16_for_cpu", None) for name, part in model.items()}
    assert packs == {"fits": True, "few outputs": False, "inputs within a block": False, "plain": None}
