"""A backbone as detection and segmentation heads want it: maps, no classifier."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vlmtools.backbones.base import Backbone


class FeaturesOnly(nn.Module):
    """A backbone that gives the maps of chosen stages, as detection and segmentation heads want them.

    Args:
        backbone: The whole model; its classifier is taken off.
        indices: Stages; None means all.
    """

    def __init__(self, backbone: Backbone, indices: Sequence[int] | None = None) -> None:
        super().__init__()
        self.out_indices = backbone.stage_indices(indices)
        backbone.reset_classifier(0)
        self.backbone = backbone
        self.feature_info = [backbone.feature_info[index] for index in self.out_indices]

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """The maps of the chosen stages.

        Args:
            x: Images.
        """
        maps = self.backbone.forward_stages(x, max(self.out_indices) + 1)
        return [maps[index] for index in self.out_indices]
