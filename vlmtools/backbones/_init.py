"""Starting weights that most vision transformers share."""

import math

from torch import nn


def small_normal(module: nn.Module) -> None:
    """Linear layers from a cut normal of spread 0.02, convolutions by fan-out, norms neutral; for `Module.apply`.

    Args:
        module: Changed in place, its children left alone.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        fan_out = height * width * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
