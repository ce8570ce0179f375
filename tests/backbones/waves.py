"""Weights and pictures that anyone can write down again, for numbers that another program gave with them."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def filled(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, every entry of its state dict set to a wave, one after the other."""
    for index, (name, weight) in enumerate(model.state_dict().items()):
        if not weight.is_floating_point():
            continue
        wave = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + index)
        if name.endswith("running_var"):
            wave = wave * 0.3 + 1.0
        elif weight.ndim <= 1:
            wave = wave * 0.3 + (0.8 if name.endswith("weight") else 0.0)
        else:
            wave = wave * (2.0 / max(1, weight.numel() // weight.shape[0])) ** 0.5
        weight.copy_(wave.reshape(weight.shape).to(weight.dtype))
    return model.eval()


def picture(side: int, n: int = 2, channels: int = 3) -> Tensor:
    """Images of waves."""
    wave = torch.sin(torch.arange(n * channels * side * side, dtype=torch.float64) * 0.37)
    return wave.reshape(n, channels, side, side).float()
