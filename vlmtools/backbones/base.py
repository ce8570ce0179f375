"""What a vision backbone is: stages of feature maps and a classifier on top, under timm's names.

model = vlmtools.backbones.create("smt_t", num_classes=10)
logits = model(images)
maps = model.forward_intermediates(images, indices=(1, 3), intermediates_only=True)
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Loaded, Rule, load_into, read
from vlmtools.backbones._variant import Variant as Variant
from vlmtools.backbones._variant import sized as sized
from vlmtools.errors import BadInput


class Backbone(nn.Module, ABC):
    """A vision encoder. A subclass is in a file named after its architecture and says its sizes in `variants`.

    A plain one sets `stem`, `stages`, `norm` and `head` and is done; others overwrite `forward_stages` and the rest.
    Every map is (batch, channel, height, width).
    """

    variants: ClassVar[Mapping[str, Variant]] = MappingProxyType({})
    """Published sizes by name; the first is the one that the architecture's own name stands for."""
    stated_gmac: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Variant → multiplications with addition of one image in units of 10⁹, as the authors state them."""
    stated_in: ClassVar[str] = ""
    """Where those numbers and the accuracies of the variants were read; a class that states any says it."""
    gmac_apart: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Variant → why the counted number is more than 3 % from the stated one."""
    renames: ClassVar[Sequence[Rule]] = ()
    """How the authors' names of weights become ours: (regular expression, replacement), applied in this order."""
    recomputed: ClassVar[Sequence[str]] = ()
    """Regular expressions of entries in the authors' files which are computed here, not loaded."""
    tiny_sizes: ClassVar[tuple[int, int]] = (64, 96)
    """Two sides of square images in pixels for `tiny()`."""
    fixed_size: ClassVar[bool] = False
    """Whether images must be as large as `img_size` said when the model was made."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """Parts of names of weights that have no say in the logits."""
    needs: ClassVar[str] = ""
    """A package that is not always installed and without which no model can be made; empty when there is none."""
    not_compiled: ClassVar[str] = ""
    """Why torch.compile cannot take the model in one graph; empty when it can."""

    stem: nn.Module
    stages: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    def __init__(self, widths: Sequence[int], reductions: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = widths[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": f"stages.{index}"}
            for index, (width, reduction) in enumerate(zip(widths, reductions, strict=True))
        ]
        self.stem, self.norm = nn.Identity(), nn.Identity()

    @classmethod
    @abstractmethod
    def tiny(cls, **changes: Any) -> Self:
        """A model of the same shape that runs in milliseconds; for tests.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """

    def forward_stages(
        self, x: Float[Tensor, "batch channel height width"], n_stages: int | None = None
    ) -> list[Tensor]:
        """The map that each stage gives.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        maps, x = [], self.stem(x)
        for stage in self.stages[:n_stages]:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_features(self, x: Float[Tensor, "batch channel height width"]) -> Tensor:
        """The last map, normalised, before pooling.

        Args:
            x: Images.
        """
        features: Tensor = self.norm(self.forward_stages(x)[-1])
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the features and classify.

        Args:
            x: What `forward_features` gave.
            pre_logits: Stop before the classifier.
        """
        pooled = self.pool(x)
        return pooled if pre_logits else self.classify(pooled)

    def pool(self, x: Tensor) -> Tensor:
        """One vector per image out of the features.

        Args:
            x: What `forward_features` gave.
        """
        return x.mean((-2, -1))

    def classify(self, pooled: Float[Tensor, "batch channel"]) -> Tensor:
        """Logits of the pooled vector.

        Args:
            pooled: What `pool` gave.
        """
        logits: Tensor = self.head(pooled)
        return logits

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Tensor:
        """Logits, or the pooled features when there is no classifier.

        Args:
            x: Images.
        """
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Float[Tensor, "batch channel height width"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Features together with the maps of chosen stages.

        Args:
            x: Images.
            indices: Stages, negative ones counted from the end; a number n means the last n; None means all.
            norm: Apply the final normalisation to the last map, if it is among them.
            stop_early: Run no stage beyond the last chosen one; needs `intermediates_only`.
            output_fmt: "NCHW" for maps, "NLC" for sequences of tokens.
            intermediates_only: Give the list of maps alone.

        Raises:
            BadInput: There is no such stage or format, or `stop_early` without `intermediates_only`.
        """
        chosen = self.stage_indices(indices)
        if output_fmt not in ("NCHW", "NLC"):
            raise BadInput(f"output_fmt is {output_fmt!r}. It can be 'NCHW' or 'NLC'. Choose one of them.")
        if stop_early and not intermediates_only:
            raise BadInput(
                "stop_early=True gives no final features. Add intermediates_only=True, or leave it out."
            )
        maps = self.forward_stages(x, max(chosen) + 1 if stop_early else None)
        last = len(self.feature_info) - 1
        wanted = [self.norm_map(maps[index]) if norm and index == last else maps[index] for index in chosen]
        shaped = [one.flatten(2).transpose(1, 2) if output_fmt == "NLC" else one for one in wanted]
        return shaped if intermediates_only else (self.features_of(x, maps), shaped)

    def norm_map(self, x: Tensor) -> Tensor:
        """The last map, normalised.

        Args:
            x: Map.
        """
        out: Tensor = self.norm(x)
        return out

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives, without computing the maps again where that can be avoided.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.norm_map(maps[-1])

    def stage_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Stage numbers from 0, sorted as asked.

        Args:
            indices: Stages, negative ones counted from the end; a number n means the last n; None means all.

        Raises:
            BadInput: There is no such stage.
        """
        n_stages = len(self.feature_info)
        if isinstance(indices, int):
            indices = range(n_stages - indices, n_stages)
        found = list(range(n_stages)) if indices is None else list(indices)
        strange = [index for index in found if not -n_stages <= index < n_stages]
        if strange or not found:
            raise BadInput(
                f"Stages {found} were asked for; there are 0 to {n_stages - 1}. Choose some of these."
            )
        return [index % n_stages for index in found]

    def get_classifier(self) -> nn.Module:
        """The layer that gives logits; `Identity` when there is none."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on.

        Args:
            num_classes: Outputs; 0 removes the classifier.
            global_pool: Unused here; only the architecture's own pooling exists.

        Raises:
            BadInput: Another pooling was asked for.
        """
        if global_pool not in (None, "", "avg"):
            raise BadInput(f"global_pool={global_pool!r}: this backbone pools in its own way. Leave it out.")
        old = next(self.parameters())
        self.num_classes = num_classes
        self.head = linear_head(self.num_features, num_classes).to(old.device, old.dtype)

    def load_checkpoint(self, path: str | Path, strict: bool = True) -> Loaded:
        """Load the authors' weights, or our own, from safetensors or .pth.

        Args:
            path: The file. A .pth is read with weights only: nothing in it is executed.
            strict: Refuse a file in which weights are missing, left over or of another shape.

        Raises:
            BadInput: Names that are missing, left over or of another shape, all of them listed.
        """
        return load_into(self, read(Path(path)), self.renames, self.recomputed, strict)

    def load_authors(self, state: Mapping[str, Tensor], strict: bool = True) -> Loaded:
        """Load a state dict that has the authors' names.

        Args:
            state: Name → weight.
            strict: Refuse weights that are missing, left over or of another shape.

        Raises:
            BadInput: Names that are missing, left over or of another shape, all of them listed.
        """
        return load_into(self, dict(state), self.renames, self.recomputed, strict)


def linear_head(width: int, num_classes: int) -> nn.Module:
    """The usual classifier; `Identity` for 0 classes.

    Args:
        width: Channels that come in.
        num_classes: Outputs.
    """
    return nn.Linear(width, num_classes) if num_classes > 0 else nn.Identity()


def drop_rates(highest: float, depths: Iterable[int]) -> list[list[float]]:
    """Chance of skipping each block, growing evenly from 0 to the highest over all blocks.

    Args:
        highest: Chance in the last block, in [0, 1).
        depths: Blocks per stage.
    """
    depths = list(depths)
    step = highest / max(sum(depths) - 1, 1)
    return [[step * (sum(depths[:stage]) + block) for block in range(n)] for stage, n in enumerate(depths)]
