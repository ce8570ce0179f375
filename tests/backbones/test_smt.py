import pytest
from golden_case import assert_close, found, like, read

from vlmtools.backbones.smt import SMT


@pytest.mark.golden
@found("smt")
def test_smt_gives_the_authors_stages_and_logits(path):
    case = read(path)
    model = SMT(**case.args)
    assert model.load_authors(case.state).whole
    model.eval()
    maps = model.forward_stages(case.inputs["x"])
    for index, stage in enumerate(maps, start=1):
        expected = case.outputs[f"stage{index}"]
        assert_close(like(stage, expected), expected, f"stage{index}")
    assert_close(model(case.inputs["x"]), case.outputs["logits"], "logits")
