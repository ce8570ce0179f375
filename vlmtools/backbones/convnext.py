"""ConvNeXt: a convolutional network with a transformer's proportions; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "facebookresearch/ConvNeXt", "MIT"


class ConvNeXt(_timm.TimmBackbone):
    """Large depthwise convolutions between pointwise ones.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2201.03545
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("convnext_tiny", 28_589_128, 82.1, _SOURCE, _LICENCE),
                variant("convnext_small", 50_223_688, 83.1, _SOURCE, _LICENCE),
                variant("convnext_base", 88_591_464, 83.8, _SOURCE, _LICENCE),
                variant("convnext_large", 197_767_336, 84.3, _SOURCE, _LICENCE),
                variant("convnext_xlarge", 350_196_968, None, _SOURCE, _LICENCE),
                variant("convnextv2_tiny", 28_635_496, None, _SOURCE, _LICENCE),
            )
        }
    )
    stated_gmac = MappingProxyType(
        {
            "convnext_tiny": 4.5,
            "convnext_small": 8.7,
            "convnext_base": 15.4,
            "convnext_large": 34.4,
            "convnext_xlarge": 60.9,
        }
    )
    fixed_size = False
    tiny_sizes = (64, 96)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "convnext_tiny",
        "depths": (1, 1, 2, 1),
        "dims": (16, 24, 32, 48),
    }
