"""SHViT: a deep stem, and attention with a single head on a part of the channels."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones.base import Backbone, Variant, sized
from vlmtools.errors import BadInput
from vlmtools.layers.conv_norm import ConvNorm
from vlmtools.layers.single_head_attention import SingleHeadAttention

_S1 = Variant(
    MappingProxyType(
        {
            "embed_dim": (128, 224, 320), "partial_dim": (32, 48, 68), "depth": (2, 4, 5),
            "types": ("i", "s", "s"),
        }
    ),
    params=6_330_808,
    top1=72.8,
    licence="MIT",
    source="ysj9909/SHViT",
)  # fmt: skip


def _sizes(
    dims: Sequence[int], parts: Sequence[int], depth: Sequence[int], params: int, top1: float, size: int = 224
) -> Variant:
    args = {"embed_dim": dims, "partial_dim": parts, "depth": depth}
    return sized(_S1, args=args, params=params, top1=top1, size=size)


class SHViT(Backbone):
    """Three stages at a sixteenth and less of the image; attention has one head.

    Args:
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        embed_dim: Channels of every stage.
        partial_dim: Channels that attend, per stage.
        qk_dim: Channels of queries and keys, per stage.
        depth: Blocks per stage.
        types: "s" for blocks with attention, "i" for blocks without, per stage.
        down_ops: ("subsample", 2) for every stage after which the map is halved; the rest keep size and width.
        distillation: A second classifier for distillation; the mean of both is given.

    Reference: arXiv:2401.16456
    """

    variants = MappingProxyType(
        {
            "shvit_s1": _S1,
            "shvit_s2": _sizes((128, 308, 448), (32, 66, 96), (2, 4, 5), 11_483_072, 75.2),
            "shvit_s3": _sizes((192, 352, 448), (48, 75, 96), (3, 5, 5), 14_245_273, 77.4),
            "shvit_s4": _sizes((224, 336, 448), (48, 72, 96), (4, 7, 6), 16_588_484, 79.4, 256),
        }
    )
    stated_in = "README.md of ysj9909/SHViT at 6a729cc"
    stated_gmac = MappingProxyType(
        {"shvit_s1": 0.241, "shvit_s2": 0.366, "shvit_s3": 0.601, "shvit_s4": 0.986}
    )
    renames: ClassVar[Sequence[Rule]] = (
        (r"^patch_embed\.", "stem."),
        (r"^blocks(\d+)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    )
    tiny_sizes = (64, 96)

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: Sequence[int] = (128, 256, 384),
        partial_dim: Sequence[int] = (32, 64, 96),
        qk_dim: Sequence[int] = (16, 16, 16),
        depth: Sequence[int] = (1, 2, 3),
        types: Sequence[str] = ("s", "s", "s"),
        down_ops: Sequence[Sequence[Any]] = (("subsample", 2), ("subsample", 2), ("",)),
        distillation: bool = False,
    ) -> None:
        halved = [bool(stage) and down_ops[stage - 1][0] == "subsample" for stage in range(len(embed_dim))]
        reductions = [16 * 2 ** sum(halved[: stage + 1]) for stage in range(len(embed_dim))]
        super().__init__(embed_dim, reductions, num_classes)
        self.stem = _stem(in_chans, embed_dim[0])
        self.stages = nn.ModuleList()
        for stage, dim in enumerate(embed_dim):
            merge = _down(embed_dim[stage - 1], dim) if halved[stage] else []
            mix = types[stage] == "s"
            blocks = [_Block(dim, qk_dim[stage], partial_dim[stage], mix) for _ in range(depth[stage])]
            self.stages.append(nn.Sequential(*merge, *blocks))
        self.head = _head(self.num_features, num_classes)
        self.head_dist = _head(self.num_features, num_classes) if distillation else None

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Three stages, the first without attention.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "embed_dim": (16, 24, 32), "partial_dim": (4, 8, 12), "qk_dim": (8, 8, 8), "depth": (1, 1, 2),
            "types": ("i", "s", "s"), "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits; with two classifiers their mean.

        Args:
            pooled: What `pool` gave.
        """
        logits: Tensor = self.head(pooled)
        return logits if self.head_dist is None else (logits + self.head_dist(pooled)) / 2

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on; a second one for distillation is renewed too.

        Args:
            num_classes: Outputs; 0 removes the classifier.
            global_pool: Unused here; only the mean exists.

        Raises:
            BadInput: Another pooling was asked for.
        """
        if global_pool not in (None, "", "avg"):
            raise BadInput(f"global_pool={global_pool!r}: this backbone takes the mean. Leave it out.")
        old = next(self.parameters())
        self.num_classes = num_classes
        self.head = _head(self.num_features, num_classes).to(old.device, old.dtype)
        if self.head_dist is not None:
            self.head_dist = _head(self.num_features, num_classes).to(old.device, old.dtype)


def _head(dim: int, num_classes: int) -> nn.Module:
    if num_classes == 0:
        return nn.Identity()
    layer = nn.Linear(dim, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm1d(dim), l=layer))


def _stem(in_chans: int, dim: int) -> nn.Sequential:
    widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [ConvNorm(before, after, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _down(dim_in: int, dim: int) -> list[nn.Module]:
    return [_local(dim_in), _Merge(dim_in, dim), _local(dim)]


def _local(dim: int) -> nn.Sequential:
    return nn.Sequential(_Residual(ConvNorm(dim, dim, 3, groups=dim)), _Residual(_Mlp(dim)))


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.m = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.m(x)
        return out


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pw1, self.pw2 = ConvNorm(dim, 2 * dim), ConvNorm(2 * dim, dim, start=0.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pw2(F.relu(self.pw1(x)))
        return out


class _Block(nn.Module):
    def __init__(self, dim: int, qk_dim: int, partial_dim: int, mix: bool) -> None:
        super().__init__()
        self.conv = _Residual(ConvNorm(dim, dim, 3, groups=dim, start=0.0))
        self.mixer = _Residual(SingleHeadAttention(dim, qk_dim, partial_dim)) if mix else nn.Identity()
        self.ffn = _Residual(_Mlp(dim))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ffn(self.mixer(self.conv(x)))
        return out


class _Merge(nn.Module):
    """Halve the map by a widened depthwise convolution with squeeze and excite."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        hidden = 4 * dim_in
        self.conv1 = ConvNorm(dim_in, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, 2, groups=hidden)
        self.se = _SqueezeExcite(hidden)
        self.conv3 = ConvNorm(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.se(F.relu(self.conv2(F.relu(self.conv1(x))))))
        return out


class _SqueezeExcite(nn.Module):
    """Squeeze and excite with biases, its inner width a multiple of 8."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner = max(8, int(dim * 0.25 + 4) // 8 * 8)
        self.fc1, self.fc2 = nn.Conv2d(dim, inner, 1), nn.Conv2d(inner, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.fc2(F.relu(self.fc1(x.mean((-2, -1), keepdim=True)))).sigmoid()
        out: Tensor = x * weights
        return out
