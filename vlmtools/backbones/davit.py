"""DaViT: attention over positions and attention over channels, in turn; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "dingmyu/davit", "MIT"


class DaViT(_timm.TimmBackbone):
    """Dual attention: windows of positions, then groups of channels.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2204.03645
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("davit_tiny", 28_360_168, 82.8, _SOURCE, _LICENCE),
                variant("davit_small", 49_745_896, 84.2, _SOURCE, _LICENCE),
                variant("davit_base", 87_954_408, 84.6, _SOURCE, _LICENCE),
                variant("davit_large", 196_811_752, None, _SOURCE, _LICENCE),
            )
        }
    )
    stated_in = "README.md of dingmyu/davit at 644f911"
    stated_gmac = MappingProxyType({"davit_tiny": 4.5, "davit_small": 8.8, "davit_base": 15.5})
    fixed_size = False
    tiny_sizes = (64, 96)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "davit_tiny",
        "depths": (1, 1, 2, 1),
        "embed_dims": (16, 24, 32, 48),
        "num_heads": (2, 3, 4, 6),
        "window_size": 4,
    }
