"""What adapters of vision towers look for in a host: its blocks, the layer that reads pixels, the connector."""

from dataclasses import dataclass

from torch import nn

from vlmtools.adapters._host import attentions, path_of, seat
from vlmtools.errors import CannotAttach


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One transformer block.

    Args:
        name: Dotted path from the host.
        module: The block.
        dim: Its width.
    """

    name: str
    module: nn.Module
    dim: int


def vision_blocks(host: nn.Module) -> list[Block]:
    """The blocks of the vision tower, in order.

    Args:
        host: A vision-language model or a vision tower.

    Raises:
        CannotAttach: It has none of a known form.
    """
    found = []
    for one in attentions(host, "vision"):
        name = one.name.rpartition(".")[0]
        found.append(Block(name, host.get_submodule(name), int(getattr(one.o_proj, "out_features", 0))))
    return found


def patch_embedding(host: nn.Module, blocks: list[Block]) -> nn.Conv2d:
    """The convolution that cuts pictures into patches.

    Args:
        host: A vision-language model or a vision tower.
        blocks: Its vision blocks.

    Raises:
        CannotAttach: The tower reads patches that were cut before.
    """
    prefix = (
        blocks[0].name.split(".layers.")[0].rpartition(".encoder")[0]
        or blocks[0].name.rpartition(".layers")[0]
    )
    for name, module in host.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith(prefix) and module.stride == module.kernel_size:
            return module
    raise CannotAttach(
        f"The vision tower of {type(host).__name__} has no convolution that cuts pictures into patches, which this "
        "adapter needs to see the picture and the grid. Towers in the manner of ViT, CLIP and SigLIP have one."
    )


def connector_of(host: nn.Module) -> nn.Module | None:
    """The host's connector; None for a vision tower alone.

    Args:
        host: A vision-language model or a vision tower.
    """
    try:
        parent, name, _ = seat(host)
    except CannotAttach:
        return None
    return parent.get_submodule(name)


__all__ = ["Block", "connector_of", "patch_embedding", "path_of", "vision_blocks"]
