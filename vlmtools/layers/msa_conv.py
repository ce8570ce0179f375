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
        n_heads: Heads; divides the channels. The authors' program has one.
        dilation: Steps between neighbours, for attention and convolution; 1 takes those that touch.
        groups: Groups of the convolution; as many as channels makes it depthwise.

    Reference: arXiv:2310.04134
    """

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        kernel_size: int = 3,
        padding: int = 1,
        n_heads: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel, self.n_heads, self.dilation = kernel_size, n_heads, dilation
        self.qkv_conv = nn.Conv2d(input_channel, 3 * input_channel, 1)
        self.mlp = nn.Conv2d(
            input_channel,
            output_channel,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=False,
        )

    def forward(self, x: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch out height width"]:
        """The convolved map.

        Args:
            x: Map.
        """
        q, k, v = self.qkv_conv(x).chunk(3, dim=1)
        k, v = (self._neighbours(one) for one in (k, v))
        q = q.reshape(k.shape[0], self.n_heads, -1, 1, *x.shape[-2:])
        scores = (q * k).sum(2, keepdim=True) * q.shape[2] ** -0.5
        seen = (scores.softmax(3) * v).sum(3)
        return torch.relu(self.mlp(seen.reshape(x.shape) + x))

    def _neighbours(self, x: Tensor) -> Tensor:
        """(batch, head, channel of the head, neighbour, height, width)."""
        padding = self.dilation * (self.kernel // 2)
        spread = F.unfold(x, self.kernel, self.dilation, padding)
        return spread.reshape(x.shape[0], self.n_heads, -1, self.kernel**2, *x.shape[-2:])
