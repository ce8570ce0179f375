"""How the patches of a vision tower become image tokens, family by family, and where these lie.

Values of patches (scores, keys, features) are carried along the way that the model's own connector sends its features,
one channel at a time: a merge of patches becomes a mean, a line end becomes NaN.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlmtools.errors import CannotAttach
from vlmtools.families._probe import Anatomy
from vlmtools.pruning._layout import Channels, Encoded, Layout, block_means, cell_means, one_each, square
from vlmtools.pruning._packing import Area


class Plain(Layout):
    """Every patch is a token: LLaVA, PaliGemma."""

    def areas(self, encoded: Encoded) -> list[Area]:
        """A view per picture."""
        sizes = encoded.inputs.get("image_sizes")
        if sizes is None:
            return one_each(encoded.items, [square(len(item)) for item in encoded.items])
        patch = self.tower.patch_size
        return one_each(encoded.items, [(int(h) // patch, int(w) // patch) for h, w in sizes])

    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """As they are."""
        if len(values) == encoded.n_tokens:
            return values
        places = torch.cat([area.places for area in self.areas(encoded)])
        return values.new_full((encoded.n_tokens, values.shape[1]), math.nan).index_copy(
            0, places.to(values.device), values
        )


class Square(Layout):
    """Squares of patches become tokens of square pictures: pixel shuffle and pooling."""

    def areas(self, encoded: Encoded) -> list[Area]:
        """A view per tile; all tiles that Idefics3 hands over for a prompt count as one picture."""
        n = math.prod(self._grid()) // self._size() ** 2
        tiles = [(row, tile) for row, item in enumerate(encoded.items) for tile in torch.split(item, n)]
        found = one_each(tuple(tile for _, tile in tiles), [square(n)] * len(tiles))
        by_row = self.config.model_type in ("idefics3", "smolvlm")
        return [
            replace(one, picture=row if by_row else None) for one, (row, _) in zip(found, tiles, strict=True)
        ]

    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """Means over squares."""
        grid = self._grid()
        pictures = torch.split(values, math.prod(grid))
        return torch.cat([block_means(one, grid, self._size()) for one in pictures])

    def _grid(self) -> tuple[int, int]:
        vision = self.config.vision_config
        image, patch = vision.image_size, vision.patch_size
        images, patches = (
            tuple(one) if isinstance(one, list | tuple) else (one, one) for one in (image, patch)
        )
        return int(images[0]) // int(patches[0]), int(images[1]) // int(patches[1])

    def _size(self) -> int:
        if self.config.model_type == "gemma3":
            return int(self.base.multi_modal_projector.kernel_size)
        ratio = getattr(self.config, "downsample_ratio", None)
        return round(1 / ratio) if ratio else int(self.config.scale_factor)


class Merged(Layout):
    """Pictures of any size, squares of patches merged: Mistral 3."""

    def areas(self, encoded: Encoded) -> list[Area]:
        """A view per picture."""
        size = self.config.spatial_merge_size
        return one_each(encoded.items, [(h // size, w // size) for h, w in self._grids(encoded)])

    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """Means over squares."""
        grids = self._grids(encoded)
        pictures = torch.split(values, [height * width for height, width in grids])
        size = self.config.spatial_merge_size
        return torch.cat([block_means(one, grid, size) for one, grid in zip(pictures, grids, strict=True)])

    def _grids(self, encoded: Encoded) -> list[tuple[int, int]]:
        patch = self.tower.patch_size
        return [(int(h) // patch, int(w) // patch) for h, w in encoded.inputs["image_sizes"]]


class Cells(Layout):
    """Patches come sorted by the token they will be merged into: Qwen-VL. A view per frame of a video."""

    def areas(self, encoded: Encoded) -> list[Area]:
        """A view per frame."""
        size, areas, start = self.tower.spatial_merge_size, [], 0
        for index, (frames, height, width) in enumerate(self._grids(encoded).tolist()):
            grid = height // size, width // size
            for _ in range(frames):
                areas.append(Area(torch.arange(start, start + math.prod(grid)), grid, index))
                start += math.prod(grid)
        return areas

    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """Means over cells, windows put back in order."""
        return cell_means(values, self.tower.spatial_merge_size**2, self._order(encoded))

    def _grids(self, encoded: Encoded) -> Tensor:
        found: Tensor = encoded.inputs[f"{encoded.kind}_grid_thw"]
        return found

    def _order(self, encoded: Encoded) -> Tensor | None:
        if not hasattr(self.tower, "window_size"):
            return None
        from transformers.vision_utils import get_vision_window_index

        order: Tensor = get_vision_window_index(
            self._grids(encoded),
            spatial_merge_size=self.tower.spatial_merge_size,
            window_size=self.tower.window_size,
            patch_size=self.tower.patch_size,
        )[0]
        return order


class Tiles(Layout):
    """An overview and a mosaic of tiles, cut to the picture and with line ends: LLaVA-NeXT, LLaVA-OneVision.

    The model packs its own features while it encodes; the same call packs values of patches.
    """

    _call: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Note how the model packs its features."""
        inner = self.base.pack_image_features

        def noted(*args: Any, **kwargs: Any) -> Any:
            self._call = args, kwargs
            return inner(*args, **kwargs)

        self.base.__dict__["pack_image_features"] = noted
        try:
            yield
        finally:
            self.base.__dict__.pop("pack_image_features", None)

    def areas(self, encoded: Encoded) -> list[Area]:
        """The overview and the mosaic of every picture."""
        features = self._features()
        base = [int(one.shape[1]) for one in features]
        places = torch.arange(sum(one.shape[0] * one.shape[1] for one in features)).double()[:, None]
        areas, start = [], 0
        for index, (packed, n) in enumerate(zip(self._packed(places), base, strict=True)):
            areas.append(Area(torch.arange(start, start + n), square(n), index))
            mosaic = packed[n:, 0].isnan().logical_not().cpu()
            if bool(mosaic.any()):
                width = int(mosaic.long().cumprod(0).sum())
                inside = mosaic.nonzero()[:, 0] + start + n
                areas.append(Area(inside, (len(inside) // width, width), index))
            start += len(packed)
        return areas

    def pack(self, values: Channels, encoded: Encoded) -> Float[Tensor, "place channel"]:
        """Packed as the features were."""
        return torch.cat(self._packed(values))

    def _features(self) -> tuple[Tensor, ...]:
        args, kwargs = self._call
        found: tuple[Tensor, ...] = tuple(args[0] if args else kwargs["image_features"])
        return found

    def _packed(self, values: Tensor) -> list[Tensor]:
        args, kwargs = self._call
        features = self._features()
        n = features[0].shape[1]
        tiles = torch.split(values.reshape(-1, n, values.shape[-1]), [len(one) for one in features])
        newline = values.new_full((values.shape[-1],), math.nan)
        given = {**kwargs, "image_newline": newline}
        given.pop("image_features", None)
        packed: list[Tensor] = self.base.pack_image_features(tiles, *args[1:], **given)[0]
        return packed


LAYOUTS: dict[str, type[Layout]] = {
    "llava": Plain,
    "paligemma": Plain,
    "llava_next": Tiles,
    "llava_onevision": Tiles,
    "internvl": Square,
    "idefics3": Square,
    "smolvlm": Square,
    "gemma3": Square,
    "mistral3": Merged,
    "qwen2_vl": Cells,
    "qwen2_5_vl": Cells,
    "qwen3_vl": Cells,
}
"""Family → the way of its patches."""


def layout_of(parts: Anatomy) -> Layout:
    """The layout of a loaded model.

    Args:
        parts: Of the model.

    Raises:
        CannotAttach: None is known, or the picture never becomes tokens of the prompt.
    """
    name = str(getattr(parts.model.config, "model_type", ""))
    if parts.family is not None and not parts.family.image_in_text:
        raise CannotAttach(
            f"{name} reads the picture by cross-attention: no image tokens lie in the prompt, so there is nothing "
            "to prune. Choose a family whose picture is part of the prompt, such as llava or qwen2_5_vl."
        )
    if name not in LAYOUTS:
        raise CannotAttach(
            f"It is not known how patches become image tokens in {name!r}; known for {', '.join(sorted(LAYOUTS))}. A "
            "connector with learned queries, as InstructBLIP's, has few tokens and no grid to prune. For others add "
            "the family to vlmtools/pruning/_layouts.py."
        )
    return LAYOUTS[name](parts)
