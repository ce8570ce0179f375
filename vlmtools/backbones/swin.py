"""Swin: attention in windows that shift from block to block; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "microsoft/Swin-Transformer", "MIT"
_LARGE = "top-1 after training on ImageNet-22k"


class Swin(_timm.TimmBackbone):
    """Windows of attention, shifted by half a window in every second block.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2103.14030
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("swin_tiny_patch4_window7_224", 28_288_354, 81.2, _SOURCE, _LICENCE),
                variant("swin_small_patch4_window7_224", 49_606_258, 83.2, _SOURCE, _LICENCE),
                variant("swin_base_patch4_window7_224", 87_768_224, 83.5, _SOURCE, _LICENCE),
                variant("swin_large_patch4_window7_224", 196_532_476, 86.3, _SOURCE, _LICENCE, note=_LARGE),
            )
        }
    )
    stated_in = "README.md of microsoft/Swin-Transformer at 005e8ef"
    stated_gmac = MappingProxyType(
        {
            "swin_tiny_patch4_window7_224": 4.5,
            "swin_small_patch4_window7_224": 8.7,
            "swin_base_patch4_window7_224": 15.4,
            "swin_large_patch4_window7_224": 34.5,
        }
    )
    fixed_size = True
    tiny_sizes = (64, 128)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "swin_tiny_patch4_window7_224",
        "window_size": 2,
        "embed_dim": 16,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 2, 4, 4),
    }
