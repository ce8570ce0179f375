"""MaxViT: convolution, attention in blocks and attention over a grid, in turn; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "google-research/maxvit", "Apache-2.0"


class MaxViT(_timm.TimmBackbone):
    """Multi-axis attention: windows, then a grid of equal spacing over the whole map.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2204.01697
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("maxvit_tiny_tf_224", 30_916_528, 83.6, _SOURCE, _LICENCE),
                variant("maxvit_small_tf_224", 68_927_956, 84.5, _SOURCE, _LICENCE),
                variant("maxvit_base_tf_224", 119_467_708, 85.0, _SOURCE, _LICENCE),
                variant("maxvit_large_tf_224", 211_785_560, 85.2, _SOURCE, _LICENCE),
            )
        }
    )
    stated_in = "README.md of google-research/maxvit at 127a2b1"
    stated_gmac = MappingProxyType(
        {
            "maxvit_tiny_tf_224": 5.6,
            "maxvit_small_tf_224": 11.7,
            "maxvit_base_tf_224": 24.2,
            "maxvit_large_tf_224": 43.9,
        }
    )
    fixed_size = True
    tiny_sizes = (64, 128)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "maxvit_tiny_tf_224",
        "stem_width": 8,
        "embed_dim": (8, 16, 24, 32),
        "depths": (1, 1, 1, 1),
        "transformer_dim_head": 8,
    }
