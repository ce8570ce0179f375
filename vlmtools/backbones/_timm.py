"""Backbones that timm already has, behind this package's interface."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from vlmtools.backbones._checkpoint import Rule
from vlmtools.backbones.base import Backbone, Variant
from vlmtools.errors import BadInput, NotInstalled


def variant(
    model: str, params: int | None, top1: float | None, source: str, licence: str, **facts: Any
) -> Variant:
    """A published size that timm builds by name.

    Args:
        model: timm's name.
        params: Parameters, exact; None when not known.
        top1: ImageNet-1k top-1 of the paper in percent; None when not known.
        source: Repository of the authors, or of who wrote it.
        licence: Its licence.
        facts: Further fields of `Variant`.
    """
    return Variant({"model": model}, params=params, top1=top1, source=source, licence=licence, **facts)


class TimmBackbone(Backbone):
    """A model of timm; the subclass says which names and how a tiny one is made.

    Args:
        model: timm's name of the model.
        num_classes: Outputs; 0 for none.
        in_chans: Channels of the images.
        img_size: Side in pixels, where the model is made for one; None for the size it was trained at.
        drop_path_rate: Highest chance of skipping a block in training, in [0, 1); 0 skips none.
        changes: Further arguments of the model in timm.

    Raises:
        NotInstalled: timm is not there.
        BadInput: `img_size` for a model that takes any size.
    """

    needs = "timm"
    not_compiled = "timm's own code"
    renames: ClassVar[Sequence[Rule]] = ((r"^(?!net\.)", "net."),)
    tiny_args: ClassVar[dict[str, Any]]
    """Arguments of timm's model that make a tiny one."""

    def __init__(
        self,
        model: str = "",
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int | None = None,
        drop_path_rate: float = 0.0,
        **changes: Any,
    ) -> None:
        if img_size is not None and not self.fixed_size:
            raise BadInput(
                f"img_size={img_size}: {type(self).__name__} takes images of any size. Leave it out."
            )
        sized: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
        if drop_path_rate:
            sized["drop_path_rate"] = drop_path_rate
        name = model or next(iter(self.variants))
        net = _timm(type(self).__name__).create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=in_chans, **sized, **changes
        )
        stages = net.feature_info
        super().__init__(
            [stage["num_chs"] for stage in stages], [stage["reduction"] for stage in stages], num_classes
        )
        for info, stage in zip(self.feature_info, stages, strict=True):
            info["module"] = f"net.{stage['module']}"
        self.net, self.num_features = net, net.head_hidden_size
        self.img_size = img_size or net.default_cfg["input_size"][-1]

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """A few narrow blocks.

        Args:
            changes: Constructor arguments that differ from the tiny ones.
        """
        size = {"img_size": cls.tiny_sizes[0]} if cls.fixed_size else {}
        return cls(**{**size, **cls.tiny_args, "num_classes": 10, **changes})

    def forward_stages(self, x: Tensor, n_stages: int | None = None) -> list[Tensor]:
        """The map that each stage gives.

        Args:
            x: Images.
            n_stages: Stop after this many stages; None runs all.
        """
        self._check(x)
        wanted = list(range(len(self.feature_info)))[:n_stages]
        maps: list[Tensor] = self.net.forward_intermediates(
            x, indices=wanted, stop_early=True, intermediates_only=True
        )
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The last features, as timm gives them.

        Args:
            x: Images.
        """
        self._check(x)
        features: Tensor = self.net.forward_features(x)
        return features

    def features_of(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """What `forward_features` gives, computed again: timm's layouts differ from model to model.

        Args:
            x: Images.
            maps: What `forward_stages` gave.
        """
        return self.forward_features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool the features and classify.

        Args:
            x: What `forward_features` gave.
            pre_logits: Stop before the classifier.
        """
        out: Tensor = self.net.forward_head(x, pre_logits=pre_logits)
        return out

    def pool(self, x: Tensor) -> Tensor:
        """One vector per image out of the features.

        Args:
            x: What `forward_features` gave.
        """
        return self.forward_head(x, pre_logits=True)

    def get_classifier(self) -> nn.Module:
        """The layer that gives logits; `Identity` when there is none."""
        layer: nn.Module = self.net.get_classifier()
        return layer

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh classifier on.

        Args:
            num_classes: Outputs; 0 removes the classifier.
            global_pool: A pooling that timm's model knows; None keeps its own.
        """
        old = next(self.parameters())
        self.num_classes = num_classes
        self.net.reset_classifier(num_classes, *([] if global_pool is None else [global_pool]))
        self.net.to(old.device, old.dtype)

    def _check(self, x: Tensor) -> None:
        if self.fixed_size and tuple(x.shape[-2:]) != (self.img_size, self.img_size):
            raise BadInput(
                f"The images are {x.shape[-2]} x {x.shape[-1]}; this {type(self).__name__} was made for "
                f"{self.img_size} x {self.img_size}. Resize them, or pass img_size when making the model."
            )


def _timm(why: str) -> Any:
    try:
        import timm
    except ImportError as problem:
        raise NotInstalled.extra("timm", "backbones", why) from problem
    return timm
