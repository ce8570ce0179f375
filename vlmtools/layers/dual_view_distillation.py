"""Make a student's feature maps like a teacher's, in space and without the mean; and its predictions too.

Reference: ScaleKD, NeurIPS 2024, arXiv:2411.06786; deep-optimization/ScaleKD.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vlmtools.layers.cross_attention_projector import CrossAttentionProjector

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"projector_0\.(.*)", r"spatial.\1"),
    (r"projector_1\.(.*)", r"frequency.\1"),
)


def without_mean(feature: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
    """Take away each channel's mean over the map: the same as dropping the constant term of its cosine transform."""
    return feature - feature.mean(dim=(2, 3), keepdim=True)


def unit_distance(
    student: Float[Tensor, "batch dim height width"], teacher: Float[Tensor, "batch dim height width"]
) -> Float[Tensor, ""]:
    """Squared distance of the cells' directions, summed over cells and averaged over the batch.

    Args:
        student: Its map, projected to the teacher's width.
        teacher: Its map.
    """
    difference = F.normalize(student, dim=1) - F.normalize(teacher, dim=1)
    return difference.square().sum() / len(student)


def soft_label_loss(
    student: Float[Tensor, "batch label"],
    teacher: Float[Tensor, "batch label"],
    alpha: float = 0.5,
    tau: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's prediction under the teacher's; the teacher's own entropy is not taken away.

    Args:
        student: Its logits.
        teacher: Its logits.
        alpha: Factor; 0 drops the loss.
        tau: Temperature; 1 changes nothing.
    """
    target = (teacher / tau).softmax(dim=1)
    return alpha * tau**2 * -(target * F.log_softmax(student / tau, dim=1)).sum(dim=1).mean()


def distilled_loss(
    student: Float[Tensor, "batch label"],
    teacher: Float[Tensor, "batch label"],
    labels: Int[Tensor, " batch"],
    label_weight: float = 0.5,
    alpha: float = 0.5,
    tau: float = 1.0,
) -> Float[Tensor, ""]:
    """Half the truth, half the teacher.

    Args:
        student: Its logits.
        teacher: Its logits.
        labels: The truth.
        label_weight: Factor of the cross-entropy with the truth; 0 drops it.
        alpha: Factor of the teacher's part; 0 drops it.
        tau: Temperature of the teacher's part.
    """
    return label_weight * F.cross_entropy(student, labels) + soft_label_loss(student, teacher, alpha, tau)


class DualViewDistillation(nn.Module):
    """Two projectors of a student's map: one is compared as it is, one without the mean of each channel.

    Args:
        d_student: Width of the student's map.
        d_teacher: Width of the teacher's map.
        grid: Height and width of both maps, in cells.
        n_heads: Attention heads of the projectors.
        own_query: True learns the queries (the third stage); False takes those of the stage before (the fourth).
        sharpness: Factor of the attention scores.
        weights: Factors of the two views; 0 drops a view.
    """

    def __init__(
        self,
        d_student: int,
        d_teacher: int,
        grid: tuple[int, int],
        n_heads: int = 8,
        own_query: bool = True,
        sharpness: float = 5.0,
        weights: tuple[float, float] = (0.08, 0.06),
    ) -> None:
        super().__init__()
        self.weights = weights
        self.spatial, self.frequency = (
            CrossAttentionProjector(d_student, d_teacher, grid, n_heads, own_query, sharpness)
            for _ in range(2)
        )

    def forward(
        self,
        student: Float[Tensor, "batch d_student height width"],
        teacher: Float[Tensor, "batch d_teacher height width"],
        queries: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The two losses, weighted.

        Args:
            student: Its map.
            teacher: Its map; gets no gradient.
            queries: Tokens for the two projectors; None uses the learned ones.
        """
        return self.losses(self.project(student, queries), teacher)

    def project(self, student: Tensor, queries: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The student's map through both projectors, as rows; also the queries of the next stage.

        Args:
            student: Its map.
            queries: As in `forward`.
        """
        first, second = queries if queries is not None else (None, None)
        return self.spatial(student, first), self.frequency(student, second)

    def losses(self, projected: tuple[Tensor, Tensor], teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The two losses of projected rows, weighted.

        Args:
            projected: What `project` gave.
            teacher: The teacher's map.
        """
        teacher = teacher.detach()
        spatial, frequency = (rows.transpose(1, 2).reshape(teacher.shape) for rows in projected)
        plain = unit_distance(spatial, teacher) * self.weights[0]
        return plain, unit_distance(without_mean(frequency), without_mean(teacher)) * self.weights[1]


def teacher_perception(
    projected: Float[Tensor, "batch cell d_teacher"],
    last_stage: Callable[[Tensor], Tensor],
    teacher: Float[Tensor, "batch dim height width"],
    as_map: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Float[Tensor, ""]:
    """How far the student's projected tokens come out of the teacher's frozen last stage from the teacher's own.

    Args:
        projected: The student's tokens of the stage before the last, in the teacher's width.
        last_stage: The teacher's last stage; its parameters should not train, gradients pass through it.
        teacher: The teacher's map after that stage.
        as_map: Turns what the stage gives into the shape of `teacher`.
    """
    return unit_distance(as_map(last_stage(projected)), teacher.detach())


def cosine_transform(
    x: Float[Tensor, "*batch height width"], orthonormal: bool = False
) -> Float[Tensor, "*batch height width"]:
    """Two-dimensional cosine transform of the second kind; for other bands than the mean.

    Args:
        x: Maps.
        orthonormal: Scale it so that lengths are kept; False leaves it as the sums are.
    """
    rows, columns = (_cosines(n, x, orthonormal) for n in x.shape[-2:])
    return rows @ x @ columns.T


def inverse_cosine_transform(
    x: Float[Tensor, "*batch height width"], orthonormal: bool = False
) -> Float[Tensor, "*batch height width"]:
    """Undo `cosine_transform`.

    Args:
        x: Coefficients.
        orthonormal: As they were made.
    """
    rows, columns = (torch.linalg.inv(_cosines(n, x, orthonormal)) for n in x.shape[-2:])
    undone: Tensor = rows @ x @ columns.T
    return undone


def _cosines(n: int, like: Tensor, orthonormal: bool) -> Tensor:
    step = torch.arange(n, device=like.device, dtype=torch.float64)
    sums = 2 * torch.cos(torch.pi * step[:, None] * (2 * step + 1) / (2 * n))
    return (F.normalize(sums, dim=1) if orthonormal else sums).to(like.dtype)
