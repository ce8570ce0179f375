"""MSA-Conv: attention inside the window of a convolution, then the convolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class MSAConv2d(nn.Module):
    """Each pixel attends to its neighbourhood, the result is added, convolved and rectified.

    Neighbours outside the map score 0 and still take their share of the softmax, as published.

    Args:
        input_channel: Channels that come in.
        output_channel: Channels that go out.
        kernel_size: Side of the neighbourhood and of the convolution.
        padding: Zeros around the map; half of the kernel keeps its size.

    Reference: arXiv:2310.04134
    """

    def __init__(
        self, input_channel: int, output_channel: int, kernel_size: int = 3, padding: int = 1
    ) -> None:
        super().__init__()
        self.kernel, self.padding = kernel_size, padding
        self.qkv_conv = nn.Conv2d(input_channel, 3 * input_channel, 1)
        self.mlp = nn.Conv2d(input_channel, output_channel, kernel_size, padding=padding, bias=False)

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch out height width"]:
        """The convolved map.

        Args:
            x: Map.
        """
        q, k, v = self.qkv_conv(x).chunk(3, dim=1)
        k, v = (self._neighbours(one) for one in (k, v))
        scores = (q.unsqueeze(2) * k).sum(1, keepdim=True) * x.shape[1] ** -0.5
        weights = scores.softmax(2)
        seen = (weights * v).sum(2)
        return torch.relu(self.mlp(seen + x))

    def _neighbours(self, x: Tensor) -> Tensor:
        spread = F.unfold(x, self.kernel, padding=self.kernel // 2)
        return spread.reshape(x.shape[0], x.shape[1], self.kernel**2, *x.shape[-2:])
