"""HaloNet: each block of pixels attends to itself and a rim around it; through timm."""

from types import MappingProxyType
from typing import Any, ClassVar

from vlmtools.backbones import _timm
from vlmtools.backbones._timm import variant

_SOURCE, _LICENCE = "huggingface/pytorch-image-models", "Apache-2.0"
_NOTE = "timm's own recipe; the paper's authors gave out no code"


class HaloNet(_timm.TimmBackbone):
    """Blocked local attention in the later stages of a residual network.

    Its arguments are those of `_timm.TimmBackbone`.

    Reference: arXiv:2103.12731
    """

    variants = MappingProxyType(
        {
            one.args["model"]: one
            for one in (
                variant("halonet26t", 12_480_288, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("halonet50ts", 22_733_280, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("halonet_h1", 8_100_056, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("sehalonet33ts", 13_691_712, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("haloregnetz_b", 11_680_072, None, _SOURCE, _LICENCE, note=_NOTE),
                variant("eca_halonext26ts", 10_756_885, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("halo2botnet50ts_256", 22_635_360, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
                variant("lamhalobotnet50ts_256", 22_569_824, None, _SOURCE, _LICENCE, note=_NOTE, size=256),
            )
        }
    )
    fixed_size = False
    tiny_sizes = (64, 128)
    tiny_args: ClassVar[dict[str, Any]] = {
        "model": "halonet26t",
        "width_factor": 0.125,
        "self_attn_kwargs": {"block_size": 2, "halo_size": 1, "dim_head": 8},
    }
