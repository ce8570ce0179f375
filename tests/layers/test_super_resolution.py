"""Super-resolution nets against the numbers of the authors' own modules, and their sizes."""

import json

import pytest
import torch
from golden_case import assert_close, found, read
from places import find_all, golden_roots

from vlmtools.layers.hat import HAT


def _without_tables(state):
    """Tables of positions are computed here."""
    return {key: value for key, value in state.items() if "relative_position_index" not in key}


@pytest.mark.golden
@found("hat")
def test_hat_gives_the_authors_picture(path):
    case = read(path)
    net = HAT(**case.args).eval()
    net.load_state_dict(_without_tables(case.state))
    with torch.no_grad():
        assert_close(net(case.inputs["x"]), case.outputs["sr"])


def _hat(width, n_groups, scale, compress=3, squeeze=30):
    return HAT(
        window_size=16, embed_dim=width, depths=(6,) * n_groups, num_heads=(6,) * n_groups, mlp_ratio=2,
        upscale=scale, compress_ratio=compress, squeeze_factor=squeeze,
    )  # fmt: skip


NETS = {
    "HAT-S_SRx4": lambda: _hat(144, 6, 4, 24, 24),
    "HAT_SRx2": lambda: _hat(180, 6, 2),
    "HAT_SRx4": lambda: _hat(180, 6, 4),
    "HAT-L_SRx4_ImageNet-pretrain": lambda: _hat(180, 12, 4),
}


def _published():
    for path in find_all(golden_roots(), "backbones/params.json"):
        tables = json.loads(path.read_text())
        yield from ((n, c) for table in tables.values() for n, c in table.items() if n in NETS)


@pytest.mark.golden
def test_the_nets_are_as_large_as_published():
    published = dict(_published())
    if not published:
        pytest.skip("no backbones/params.json in $VLMTOOLS_GOLDEN, ../shared or tests/golden")
    with torch.device("meta"):
        ours = {name: sum(weight.numel() for weight in NETS[name]().parameters()) for name in published}
    assert ours == published
