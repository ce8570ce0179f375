"""FIT: groups of patches work among themselves, a few latents of each group work among all groups, in turn.

Far-reaching interleaved transformer. The encoder follows the authors' program (TensorFlow; it was read, not run): per
stage the patches of a group go through local layers, the latents of the group read them, all latents go through global
layers, and the patches read the latents of their group. The authors use it in front of a decoder; the classifier on
the mean of the latents is ours, and so are the sizes: the settings of their image encoder were not given out.
"""

import re
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.backbones import _vit
from vlmtools.backbones._init import small_normal
from vlmtools.backbones.base import Backbone, Variant, linear_head, sized
from vlmtools.errors import BadInput
from vlmtools.layers.interleaved import Reading

_S = Variant(
    MappingProxyType({"layers": "(2)3(2)3"}),
    licence="Apache-2.0",
    source="google-research/pix2seq",
    note="sizes and classifier are ours",
)


class FIT(Backbone):
    """Local layers for the patches of a group, global layers for the latents of all groups.

    Args:
        img_size: Side in pixels that the latents are made for; for other multiples of a group they are interpolated.
        in_chans: Channels of the images.
        num_classes: Outputs; 0 for none.
        patch_size: Side of a patch in pixels.
        group_size: Side of a group in patches.
        layers: Local layers in brackets, then global layers, stage by stage: "(2)3(2)3".
        latents_per_group: Latents of each group.
        embed_dim: Channels of a patch.
        latent_dim: Channels of a latent.
        num_heads: Heads for the patches.
        latent_heads: Heads for the latents.
        mlp_ratio: Widening of the feed-forward parts.

    Reference: arXiv:2305.12689

    Raises:
        BadInput: The layers are not written that way.
    """

    variants = MappingProxyType(
        {
            "fit_s": _S,
            "fit_b": sized(
                _S,
                args={
                    "layers": "(2)4(2)4(2)4", "embed_dim": 384, "num_heads": 6, "latent_dim": 768, "latent_heads": 12,
                },
            ),
        }
    )  # fmt: skip
    training_only = ("patch_norm.",)  # for the maps

    def __init__(
        self,
        img_size: int = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        patch_size: int = 8,
        group_size: int = 7,
        layers: str = "(2)3(2)3",
        latents_per_group: int = 8,
        embed_dim: int = 256,
        latent_dim: int = 512,
        num_heads: int = 4,
        latent_heads: int = 8,
        mlp_ratio: float = 4.0,
    ) -> None:
        counts = layer_counts(layers)
        super().__init__([embed_dim] * len(counts), [patch_size] * len(counts), num_classes)
        self.patch_size, self.group_size, self.latents_per_group = patch_size, group_size, latents_per_group
        self.num_features = latent_dim
        self.patch_embed = _vit.PatchEmbed(in_chans, embed_dim, patch_size)
        self.patch_embed_norm = nn.LayerNorm(embed_dim, eps=1e-6)
        n_groups = (img_size // (patch_size * group_size)) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(group_size**2, embed_dim))
        self.latents = nn.Parameter(torch.zeros(n_groups, latents_per_group, latent_dim))
        width, heads = min(embed_dim, latent_dim), min(num_heads, latent_heads)
        self.stages = nn.ModuleList()
        for stage, (n_local, n_global) in enumerate(counts):
            read = Reading(latent_dim, embed_dim, width, heads)
            write = Reading(embed_dim, latent_dim, width, heads) if stage < len(counts) - 1 else None
            local = _layers(n_local, embed_dim, num_heads, mlp_ratio)
            self.stages.append(
                _Stage(local, read, _layers(n_global, latent_dim, latent_heads, mlp_ratio), write)
            )
        self.patch_norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.norm = nn.LayerNorm(latent_dim, eps=1e-6)
        self.head = linear_head(latent_dim, num_classes)
        self.apply(small_normal)
        for table in (self.pos_embed, self.latents):
            nn.init.trunc_normal_(table, std=0.02)

    def forward_both(self, x: Tensor, n_stages: int | None = None) -> tuple[list[Tensor], Tensor]:
        """The map of patches after the local layers of each stage and, from there on, the latents of the last one.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.

        Raises:
            BadInput: The images cannot be cut into groups.
        """
        n_rows, n_columns = self._groups(x)
        maps, patches = [], self.embed(x)
        latents = self._latents(n_rows, n_columns).repeat(x.shape[0], 1, 1)
        for stage in self.stages[:n_stages]:
            seen, patches, latents = stage(patches, latents, x.shape[0])
            maps.append(self._to_map(seen, n_rows, n_columns))
        return maps, latents.reshape(x.shape[0], -1, latents.shape[-1])

    def embed(self, x: Tensor) -> Tensor:
        """Patches with their place inside the group: (batch x group, patch of the group, channel), groups row by row.

        Args:
            x: Images.
        """
        cut = self.patch_embed_norm(self.patch_embed(x).permute(0, 2, 3, 1))
        batch, height, width, dim = cut.shape
        side = self.group_size
        groups = cut.reshape(batch, height // side, side, width // side, side, dim).transpose(2, 3)
        tokens: Tensor = groups.reshape(-1, side**2, dim) + self.pos_embed
        return tokens

    def _groups(self, x: Tensor) -> tuple[int, int]:
        pixels = self.patch_size * self.group_size
        if x.shape[-2] % pixels or x.shape[-1] % pixels:
            raise BadInput(
                f"Images of {x.shape[-2]} x {x.shape[-1]} pixels were given; a group is {pixels} pixels wide. Resize "
                f"or pad both sides to multiples of {pixels}, or choose another group_size."
            )
        return x.shape[-2] // pixels, x.shape[-1] // pixels

    def _latents(self, n_rows: int, n_columns: int) -> Tensor:
        """The latents of every group, interpolated where there are more or fewer groups than they were made for."""
        side = round(self.latents.shape[0] ** 0.5)
        if (n_rows, n_columns) == (side, side):
            return self.latents
        square = self.latents.permute(1, 2, 0).reshape(*self.latents.shape[1:], side, side)
        fitted = F.interpolate(square, size=(n_rows, n_columns), mode="bicubic", align_corners=False)
        return fitted.flatten(2).permute(2, 0, 1)

    def _to_map(self, patches: Tensor, n_rows: int, n_columns: int) -> Tensor:
        side = self.group_size
        cut = patches.reshape(-1, n_rows, n_columns, side, side, patches.shape[-1])
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(-1, patches.shape[-1], n_rows * side, n_columns * side)

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map of patches after the local layers of each stage.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        return self.forward_both(x, n_stages)[0]

    def forward_features(self, x: Tensor) -> Tensor:
        """The latents of all groups, normalised.

        Args:
            x: Images.
        """
        out: Tensor = self.norm(self.forward_both(x)[1])
        return out

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives; latents are no map, so they are computed again.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.forward_features(x)

    def norm_map(self, x: Tensor) -> Tensor:
        """The last map of patches, normalised.

        Args:
            x: Map.
        """
        out: Tensor = self.patch_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def pool(self, x: Tensor) -> Tensor:
        """The mean of the latents.

        Args:
            x: What `forward_features` gave.
        """
        return x.mean(1)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Two stages of one local and one global layer.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        small: dict[str, Any] = {
            "img_size": 64, "patch_size": 8, "group_size": 4, "layers": "(1)1(1)1", "latents_per_group": 2,
            "embed_dim": 16, "latent_dim": 32, "num_heads": 2, "latent_heads": 4, "mlp_ratio": 2, "num_classes": 10,
        }  # fmt: skip
        return cls(**{**small, **changes})


class _Stage(nn.Module):
    """Local layers, reading, global layers, and writing back unless it is the last."""

    def __init__(self, local: nn.Module, read: nn.Module, across: nn.Module, write: nn.Module | None) -> None:
        super().__init__()
        self.local, self.read, self.across, self.write = local, read, across, write

    def forward(self, patches: Tensor, latents: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        seen = self.local(patches)
        latents = self.read(latents, seen)
        latents = self.across(latents.reshape(batch, -1, latents.shape[-1])).reshape(latents.shape)
        return seen, seen if self.write is None else self.write(seen, latents), latents


def layer_counts(layers: str) -> list[tuple[int, int]]:
    """Local and global layers of each stage.

    Args:
        layers: Like "(2)3(2)3".

    Raises:
        BadInput: It is not written that way.
    """
    if not re.fullmatch(r"(\([0-9]+\)[1-9][0-9]*)+", layers):
        raise BadInput(
            f"layers is {layers!r}. It is local layers in brackets, then global layers, for every stage; the latents "
            "are classified, so each stage needs at least one global layer. Write for example '(2)3(2)3'."
        )
    return [(int(local), int(across)) for local, across in re.findall(r"\(([0-9]+)\)([0-9]+)", layers)]


def _layers(n: int, dim: int, n_heads: int, mlp_ratio: float) -> nn.Sequential:
    return nn.Sequential(*(_vit.Block(dim, n_heads, mlp_ratio) for _ in range(n)))
