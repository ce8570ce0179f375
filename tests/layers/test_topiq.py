import pytest
import torch
from golden_case import assert_close, found, read

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


def test_a_missing_reference_is_refused():
    with pytest.raises(ValueError, match="use_ref=True"):
        QualityHead((4, 8), inter_dim=8, num_heads=2)([torch.zeros(1, 4, 4, 4), torch.zeros(1, 8, 2, 2)])
