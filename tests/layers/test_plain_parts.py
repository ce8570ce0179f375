"""The feed-forward part and the norm of maps."""

import torch
from torch.nn import functional as F

from vlmtools.layers.feed_forward import FeedForward
from vlmtools.layers.map_norm import MapNorm


def test_a_map_is_normalised_over_its_channels_alone() -> None:
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    seen = MapNorm(5)(x)
    assert torch.equal(seen[1, :, 2, 3], F.layer_norm(x[1, :, 2, 3][None], (5,))[0])


def test_the_feed_forward_part_is_two_maps_around_a_gelu() -> None:
    part, x = FeedForward(3, 7), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(part(x), part.fc2(F.gelu(part.fc1(x))))
    assert list(part.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
