"""Two bottlenecks in a row: a prime modality is squeezed until it can only tell what a second and a third one confirm.

Reference: ITHP, ICLR 2024, arXiv:2404.09403; joshuaxiao98/ITHP.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

OFFICIAL_NAMES: tuple[tuple[str, str | None], ...] = (
    (r"encoder1\.(.*)", r"first.encoder.\1"),
    (r"encoder2\.(.*)", r"second.encoder.\1"),
    (r"MLP1\.(.*)", r"first.decoder.\1"),
    (r"MLP2\.(.*)", r"second.decoder.\1"),
)


def kl_to_normal(
    mean: Float[Tensor, "*batch dim"], log_variance: Float[Tensor, "*batch dim"]
) -> Float[Tensor, ""]:
    """Divergence from a standard normal, summed as a mean over the width, then averaged.

    Args:
        mean: Of the code.
        log_variance: Of the code; 0 with mean 0 gives 0.
    """
    per_token = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean(dim=-1)
    return per_token.mean()


@dataclass(frozen=True, slots=True, eq=False)
class Bottlenecked:
    """What two bottlenecks gave.

    Args:
        code: The last code.
        kl: Divergence of both codes.
        error: Squared error of both predictions.
    """

    code: Tensor
    kl: tuple[Tensor, Tensor]
    error: tuple[Tensor, Tensor]

    def loss(self, beta: float = 8.0, gamma: float = 32.0, lam: float = 0.3) -> Float[Tensor, ""]:
        """Both bottlenecks as one number.

        Args:
            beta: Weight of the first prediction; 0 leaves the divergence alone.
            gamma: Weight of the second prediction.
            lam: Weight of the second bottleneck; 0 drops it.
        """
        return self.kl[0] + beta * self.error[0] + lam * (self.kl[1] + gamma * self.error[1])


class _Bottleneck(nn.Module):
    """A Gaussian code and what it says about the other modality, in (0, 1)."""

    def __init__(self, d_in: int, d_code: int, d_other: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(d_in, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 2 * d_code)
        )
        # dropout after the sigmoid is the authors' choice
        self.decoder = nn.Sequential(
            nn.Linear(d_code, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, d_other),
            nn.Sigmoid(), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor, other: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        code = mean if noise is None else mean + noise * (log_variance / 2).exp()
        return code, kl_to_normal(mean, log_variance), F.mse_loss(self.decoder(code), other)


class HierarchicalBottleneck(nn.Module):
    """The prime modality through two bottlenecks, each judged by what it says about another modality.

    Args:
        d_prime: Width of the prime modality.
        d_first: Width of the modality the first code must predict, its values in 0 to 1.
        d_second: Width of the modality the second code must predict, its values in 0 to 1.
        d_code: Widths of the two codes.
        hidden: Hidden width of encoders and decoders.
        dropout: Share of units dropped in training; 0 drops none.
    """

    def __init__(
        self,
        d_prime: int,
        d_first: int,
        d_second: int,
        d_code: tuple[int, int] = (128, 64),
        hidden: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.first = _Bottleneck(d_prime, d_code[0], d_first, hidden, dropout)
        self.second = _Bottleneck(d_code[0], d_code[1], d_second, hidden, dropout)
        self.d_code = d_code

    def forward(
        self,
        prime: Float[Tensor, "*batch d_prime"],
        first: Float[Tensor, "*batch d_first"],
        second: Float[Tensor, "*batch d_second"],
        noise: tuple[Tensor, Tensor] | None = None,
        sample: bool = True,
    ) -> Bottlenecked:
        """Squeeze, and compare.

        Args:
            prime: The prime modality.
            first: What the first code must predict.
            second: What the second code must predict.
            noise: Standard normal draws for the two codes; None draws them.
            sample: False uses the mean of each code; True samples, which the authors also do in evaluation.
        """
        if not sample:
            draws: tuple[Tensor | None, Tensor | None] = (None, None)
        else:
            draws = noise or tuple(torch.randn(*prime.shape[:-1], d).to(prime) for d in self.d_code)  # type: ignore[assignment]
        code0, kl0, error0 = self.first(prime, first, draws[0])
        code1, kl1, error1 = self.second(code0, second, draws[1])
        return Bottlenecked(code1, (kl0, kl1), (error0, error1))
