"""ECA-Net: a residual network whose channels are weighed by a small convolution across channels; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "huggingface/pytorch-image-models", "Apache-2.0"
_NOTE = "timm's own recipe; the authors' repository is BangguWu/ECANet (ECA-Net50 77.4)"


class ECANet(_timm.TimmBackbone):
    """Efficient channel attention after every residual block.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:1910.03151
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("ecaresnet50t", 25_573_814, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("ecaresnet101d", 44_568_563, None, _SOURCE, _LICENCE, note=_NOTE),
            )
        }
    )
    fixed_size = False
    tiny_sizes = (64, 96)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "ecaresnet50t",
        "layers": (1, 1, 1, 1),
        "channels": (4, 8, 12, 16),
        "stem_width": 8,
    }
