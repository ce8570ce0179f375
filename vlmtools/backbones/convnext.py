"""ConvNeXt: a convolutional network with a transformer's proportions; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "facebookresearch/ConvNeXt", "MIT"
_LARGE = "top-1 after training on ImageNet-22k"
_V2 = "of facebookresearch/ConvNeXt-V2, whose weights are CC-BY-NC; top-1 after a masked autoencoder on ImageNet-1k"


class ConvNeXt(_timm.TimmBackbone):
    """Large depthwise convolutions between pointwise ones.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2201.03545, arXiv:2301.00808
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("convnext_tiny", 28_589_128, 82.1, _SOURCE, _LICENCE),
                variant("convnext_small", 50_223_688, 83.1, _SOURCE, _LICENCE),
                variant("convnext_base", 88_591_464, 83.8, _SOURCE, _LICENCE),
                variant("convnext_large", 197_767_336, 84.3, _SOURCE, _LICENCE),
                variant("convnext_xlarge", 350_196_968, 87.0, _SOURCE, _LICENCE, note=_LARGE),
                variant("convnextv2_tiny", 28_635_496, 83.0, f"{_SOURCE}-V2", _LICENCE, note=_V2),
            )
        }
    )
    stated_in = (
        "README.md of facebookresearch/ConvNeXt at 048efce; of convnextv2_tiny, README.md of "
        "facebookresearch/ConvNeXt-V2 at 1e48272"
    )
    stated_gmac = MappingProxyType(
        {
            "convnext_tiny": 4.5,
            "convnext_small": 8.7,
            "convnext_base": 15.4,
            "convnext_large": 34.4,
            "convnext_xlarge": 60.9,
            "convnextv2_tiny": 4.47,
        }
    )
    fixed_size = False
    tiny_sizes = (64, 96)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "convnext_tiny",
        "depths": (1, 1, 2, 1),
        "dims": (16, 24, 32, 48),
    }
