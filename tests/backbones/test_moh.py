import pytest
import torch
from golden_case import assert_close, found, like, read

from vlmtools.backbones.moh import MoHViT
from vlmtools.layers.head_routing import HeadRouting


@pytest.mark.golden
@found("moh")
def test_moh_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = MoHViT(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    for index, stage in enumerate(model.forward_stages(case.inputs["x"]), start=1):
        expected = case.outputs[f"stage{index}"]
        assert_close(like(stage, expected), expected, f"stage{index}")
    assert_close(model(case.inputs["x"]), case.outputs["logits"], "logits")


def test_a_token_uses_its_shared_heads_and_as_many_others_as_asked():
    torch.manual_seed(0)
    weights = HeadRouting(16, n_heads=8, n_shared=2, n_routed=3)(torch.randn(2, 5, 16))
    assert weights.shape == (2, 5, 8)
    assert (weights[..., :2] > 0).all() and ((weights[..., 2:] > 0).sum(-1) == 3).all()


def test_training_leaves_a_term_that_balances_the_heads():
    routing = HeadRouting(16, n_heads=8, n_shared=2, n_routed=3)
    routing.train()(torch.randn(2, 5, 16))
    assert routing.load_balance is not None and routing.load_balance.requires_grad
