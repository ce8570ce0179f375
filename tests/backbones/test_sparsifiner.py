import pytest
import torch
from golden_case import assert_close, found, read

from vlmtools.layers.sparse_attention import SparseAttention


def _layer(case):
    spar = case.meta["cfg"]["SPAR"]
    coef, score = spar["BASIS_COEF"], spar["ATTN_SCORE"]
    layer = SparseAttention(
        **case.args,
        basis_threshold=spar["BASIS_THRESHOLD"],
        coef_threshold=coef["THRESHOLD"],
        coef_topk=coef["TOPK"] if coef["USE_TOPK"] else 0,
        score_threshold=None if score["USE_TOPK"] else score["THRESHOLD"],
        prune_rows=spar["PRUNE_ATTN_MATRIX_ROW"],
    )
    layer.load_state_dict(case.state)
    return layer.eval()


def _compare(case, found, prefix=""):
    for name, actual in found._asdict().items():
        if prefix + name in case.outputs:
            expected = case.outputs[prefix + name]
            assert_close(actual.to(expected.dtype), expected, prefix + name)


@pytest.mark.golden
@found("sparsifiner", "attention*")
def test_the_predicted_mask_and_the_attended_tokens_are_the_authors(path):
    case = read(path)
    layer = _layer(case)
    with torch.no_grad():
        first = layer(case.inputs["x"])
        _compare(case, first)
        if "second_x" in case.outputs:
            _compare(case, layer(case.inputs["x"], first.token_mask), "second_")


def test_each_patch_keeps_its_share_of_keys_and_the_class_token_all():
    torch.manual_seed(0)
    layer = SparseAttention(16, 17, num_heads=2, attn_keep_rate=0.25, basis_threshold=0.0)
    mask = layer(torch.randn(2, 17, 16)).attn_mask
    assert (mask[:, :, 0] == 1).all() and (mask[:, :, 1:].sum(-1) == 5).all()
