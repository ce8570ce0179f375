"""MoH-ViT: TransNeXt in which every token chooses its attention heads."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones.base import Variant, sized
from vlmtools.backbones.transnext import TransNeXt
from vlmtools.layers.head_routing import HeadRouting

_BASE = Variant(
    MappingProxyType(
        {
            "embed_dims": (96, 192, 384, 768),
            "num_heads": (4, 8, 16, 32),
            "depths": (5, 5, 23, 5),
            "shared_head": (4, 8, 4, 5),
            "routed_head": (0, 0, 8, 16),
        }
    ),
    params=90_020_632,
    licence="Apache-2.0",
    source="SkyworkAI/MoH",
    note="75 % of the heads",
)
_SMALL = sized(
    _BASE,
    args={
        "embed_dims": (72, 144, 288, 576),
        "num_heads": (3, 6, 12, 24),
        "depths": (5, 5, 22, 5),
        "shared_head": (3, 6, 3, 8),
        "routed_head": (0, 0, 6, 12),
    },
    params=49_910_548,
    note="80 % of the heads",
)


class MoHViT(TransNeXt):
    """TransNeXt with shared and routed heads.

    Args:
        shared_head: Heads per stage that are always on.
        routed_head: How many of the other heads each token takes, per stage; 0 where all heads are shared.
        settings: The other arguments of TransNeXt.

    Reference: arXiv:2410.11842
    """

    variants = MappingProxyType(
        {
            "moh_transnext_base_75": _BASE,
            "moh_transnext_base_50": sized(
                _BASE,
                args={"shared_head": (2, 2, 2, 4), "routed_head": (2, 4, 6, 8)},
                params=90_023_512,
                note="50 % of the heads",
            ),
            "moh_transnext_small_80": _SMALL,
            "moh_transnext_small_75": sized(
                _SMALL, args={"shared_head": (3, 6, 3, 4)}, note="75 % of the heads"
            ),
        }
    )
    renames: ClassVar[Sequence[Rule]] = (*TransNeXt.renames, (r"attn\.(wg(_\d)?)\.", r"attn.gates.\1."))

    def __init__(
        self,
        shared_head: Sequence[int] = (1, 2, 4, 8),
        routed_head: Sequence[int] = (0, 0, 0, 0),
        **settings: Any,
    ) -> None:
        self._shared, self._routed = tuple(shared_head), tuple(routed_head)
        super().__init__(**settings)

    def _gates(self, stage: int, dim: int, n_heads: int) -> nn.Module | None:
        return HeadRouting(dim, n_heads, self._shared[stage], self._routed[stage])

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Four stages of one block, with routed heads in each.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        heads = {"num_heads": (4, 4, 8, 8), "shared_head": (1, 2, 3, 4), "routed_head": (2, 1, 4, 2)}
        return super().tiny(**{**heads, **changes})
