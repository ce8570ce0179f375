"""Project a student's feature map to the width and the grid of its teacher's by cross-attention.

Reference: ScaleKD, arXiv:2411.06786, section 3.1; deep-optimization/ScaleKD.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"proj_student\.(\d)\.(.*)", r"student.\1.\2"),
    (r"proj_pos\.0\.(.*)", r"query_mix.\1"),
    (r"query\.weight", "query"),
    (r"pos_embed", "position"),
    (r"pos_attention\.([qkv])\.(.*)", r"\1.\2"),
    (r"pos_attention\.proj\.(.*)", r"out.\1"),
    (r"ffn\.layers\.0\.0\.(.*)", r"ffn.0.\1"),
    (r"ffn\.layers\.1\.(.*)", r"ffn.2.\1"),
    (r"norm\.(.*)", r"norm.\1"),
)


class CrossAttentionProjector(nn.Module):
    """Learned queries, or those of an earlier stage, read the student's map; the result looks like the teacher's.

    Args:
        d_student: Width of the student's map.
        d_teacher: Width of the teacher's map.
        grid: Height and width of both maps, in cells.
        n_heads: Attention heads.
        own_query: True learns the queries; False takes them in each call.
        sharpness: Factor of the attention scores; 1 leaves them plain, the authors use 5.
    """

    def __init__(
        self,
        d_student: int,
        d_teacher: int,
        grid: tuple[int, int],
        n_heads: int = 8,
        own_query: bool = True,
        sharpness: float = 5.0,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scale = sharpness * (d_teacher // n_heads) ** -0.5
        self.student = nn.Sequential(
            nn.Conv2d(d_student, d_student, 3, padding=1), nn.BatchNorm2d(d_student), nn.ReLU()
        )
        self.position = nn.Parameter(torch.zeros(1, d_student, *grid))
        self.query = nn.Parameter(torch.randn(grid[0] * grid[1], d_teacher)) if own_query else None
        self.query_mix = nn.Conv2d(d_teacher, d_teacher, 1)
        self.q, self.out = nn.Linear(d_teacher, d_teacher), nn.Linear(d_teacher, d_teacher)
        self.k, self.v = nn.Linear(d_student, d_teacher), nn.Linear(d_student, d_teacher)
        self.norm = nn.LayerNorm(d_teacher)
        self.ffn = nn.Sequential(
            nn.Linear(d_teacher, 4 * d_teacher), nn.ReLU(), nn.Linear(4 * d_teacher, d_teacher)
        )

    def forward(
        self,
        student: Float[Tensor, "batch d_student height width"],
        query: Float[Tensor, "batch cell d_teacher"] | None = None,
    ) -> Float[Tensor, "batch cell d_teacher"]:
        """The student's map as the teacher would have it, row by row.

        Args:
            student: Its map.
            query: Projected tokens of an earlier stage; None uses the learned queries.
        """
        tokens = (self.student(student) + self.position).flatten(2).transpose(1, 2)
        q = self._heads(self.q(self._mixed(self._queries(student, query))))
        k, v = self._heads(self.k(tokens)), self._heads(self.v(tokens))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        normal = self.norm(self.out(mixed.transpose(1, 2).flatten(2)))
        projected: Tensor = normal + self.ffn(normal)
        return projected

    def _queries(self, student: Tensor, query: Tensor | None) -> Tensor:
        if query is not None:
            return query
        if self.query is None:
            raise ValueError("This projector has no queries of its own. Give those of the earlier stage.")
        return self.query.expand(len(student), -1, -1)

    def _mixed(self, query: Tensor) -> Tensor:
        mixed: Tensor = self.query_mix(query.transpose(1, 2)[..., None])
        return mixed[..., 0].relu().transpose(1, 2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.n_heads, -1).transpose(1, 2)
