import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.backbones.evit import EViT
from vlmtools.layers.token_reduction import keep_attended


@pytest.mark.golden
@found("evit")
def test_evit_gives_the_authors_logits_and_keeps_their_patches(path):
    case = read(path)
    model = EViT(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    x, kept_in = case.inputs["x"], []
    with torch.no_grad():
        for name in (name for name in case.outputs if name.startswith("logits")):
            tokens, kept = model.forward_tokens(x, _rate(name))
            assert_close(model.forward_head(tokens), case.outputs[name], name)
            kept_in.append([patches.sort(1).values for patches in kept])
    published = [case.outputs[f"idx{index}"].long().sort(1).values for index in range(len(kept_in[0]))]
    assert any(all(map(torch.equal, kept, published)) for kept in kept_in)


def _rate(name):
    """The share in names like logits_k06; None for the model's own."""
    digits = name.removeprefix("logits").removeprefix("_k")
    return float(f"{digits[0]}.{digits[1:]}") if digits else None


def test_the_fused_token_is_the_weighed_sum_of_the_dropped_patches():
    tokens = torch.tensor([[[9.0], [1.0], [2.0], [3.0]]])
    attention = torch.tensor([[[0.1, 0.5, 0.2]]])
    kept, best = keep_attended(tokens, attention, keep_rate=0.3, fuse=True)
    assert best is not None and best.tolist() == [[1]]
    torch.testing.assert_close(kept, torch.tensor([[[9.0], [2.0], [0.1 * 1 + 0.2 * 3]]]))


def test_keeping_everything_changes_nothing():
    tokens = torch.randn(2, 5, 3)
    kept, best = keep_attended(tokens, torch.rand(2, 1, 4), keep_rate=1.0)
    assert kept is tokens and best is None
