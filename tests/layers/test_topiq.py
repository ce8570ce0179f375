import json

import pytest
import torch
from golden_case import assert_close, found, read
from places import find_all, golden_roots

from vlmtools.layers.topiq import QualityHead


def _levels(case, letter):
    names = sorted((name for name in case.inputs if name[0] == letter), key=lambda name: int(name[1:]))
    return [case.inputs[name] for name in names]


@pytest.mark.golden
@found("topiq")
def test_topiq_gives_the_authors_score(path):
    case = read(path)
    head = QualityHead(**case.args).eval()
    head.load_state_dict(case.state)
    reference = _levels(case, "r") if head.use_ref else None
    with torch.no_grad():
        assert_close(head(_levels(case, "f"), reference), case.outputs["score"])


RESNET_50 = 23_508_032
"""Parameters of ResNet-50 without its classifier."""
SIZES = {
    "cfanet_nr_res50": {"use_ref": False},
    "cfanet_fr_res50": {"use_ref": True},
    "cfanet_iaa_res50_num10": {"use_ref": False, "inter_dim": 512, "num_class": 10},
}


@pytest.mark.golden
def test_heads_on_a_resnet_are_as_large_as_published():
    tables = [json.loads(path.read_text()) for path in find_all(golden_roots(), "backbones/params.json")]
    published = {
        name: count for table in tables for name, count in table.get("topiq", {}).items() if name in SIZES
    }
    if not published:
        pytest.skip("no backbones/params.json in $VLMTOOLS_GOLDEN, ../shared or tests/golden")
    with torch.device("meta"):
        heads = {name: QualityHead((64, 256, 512, 1024, 2048), **SIZES[name]) for name in published}
    counts = {name: RESNET_50 + sum(w.numel() for w in head.parameters()) for name, head in heads.items()}
    assert counts == published


def test_a_missing_reference_is_refused():
    with pytest.raises(ValueError, match="use_ref=True"):
        QualityHead((4, 8), inter_dim=8, num_heads=2)([torch.zeros(1, 4, 4, 4), torch.zeros(1, 8, 2, 2)])
