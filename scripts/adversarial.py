"""Turned and attacked pictures, for training that minds neither; `train_dual_stream.py` uses them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalised(nn.Module):
    """A model of pictures in [0, 1]: the attack works on pixels, the network on normalised ones.

    Args:
        net: A classifier.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits.

        Args:
            pictures: In [0, 1].
        """
        logits: Tensor = self.net((pictures - self.mean) / self.std)
        return logits


def turned(
    pictures: Float[Tensor, "batch channel side side"], quarters: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channel side side"]:
    """Every picture turned by its own number of quarter turns, counter-clockwise.

    Args:
        pictures: Square pictures.
        quarters: 0 to 3 each.
    """
    return torch.stack(
        [torch.rot90(one, int(k), (-2, -1)) for one, k in zip(pictures, quarters, strict=True)]
    )


def attacked(
    model: nn.Module, pictures: Tensor, classes: Tensor, radius: float, step: float, draw: torch.Generator
) -> Tensor:
    """The pictures after one step of the fast gradient sign attack from a random start.

    Args:
        model: Takes pictures in [0, 1].
        pictures: In [0, 1].
        classes: What they show.
        radius: Largest change of a pixel; 0 gives the pictures back.
        step: Length of the step.
        draw: Decides the start.

    Reference: arXiv:2001.03994, algorithm 3
    """
    if radius == 0:
        return pictures
    start = (2 * torch.rand(pictures.shape, generator=draw).to(pictures.device) - 1) * radius
    moved = (pictures + start).clamp(0, 1).requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(model(moved), classes), moved)
    away = (moved.detach() + step * slope.sign() - pictures).clamp(-radius, radius)
    return (pictures + away).clamp(0, 1)
