"""EfficientViT-M: sandwiched feed-forward layers and attention whose heads see different channels; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "microsoft/Cream", "MIT"


class EfficientViTM(_timm.TimmBackbone):
    """Cascaded group attention: each head reads its own share of the channels plus the head before.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2305.07027
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("efficientvit_m0", 2_349_436, 63.2, _SOURCE, _LICENCE),
                variant("efficientvit_m1", 2_980_560, 68.4, _SOURCE, _LICENCE),
                variant("efficientvit_m2", 4_187_554, 70.8, _SOURCE, _LICENCE),
                variant("efficientvit_m3", 6_900_722, 73.4, _SOURCE, _LICENCE),
                variant("efficientvit_m4", 8_804_228, 74.3, _SOURCE, _LICENCE),
                variant("efficientvit_m5", 12_473_772, 77.1, _SOURCE, _LICENCE),
            )
        }
    )
    stated_in = "EfficientViT/classification/README.md of microsoft/Cream at 74fb8c5"
    stated_gmac = MappingProxyType(
        {
            "efficientvit_m0": 0.079,
            "efficientvit_m1": 0.167,
            "efficientvit_m2": 0.201,
            "efficientvit_m3": 0.263,
            "efficientvit_m4": 0.299,
            "efficientvit_m5": 0.522,
        }
    )
    fixed_size = True
    tiny_sizes = (64, 128)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "efficientvit_m0",
        "embed_dim": (16, 24, 32),
        "key_dim": (4, 4, 4),
        "depth": (1, 1, 1),
        "num_heads": (2, 2, 2),
        "window_size": (4, 2, 1),
        "kernels": (5, 3),
    }
