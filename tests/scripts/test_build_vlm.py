import build_vlm
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from vlmtools.errors import BadInput

SMALL = {
    "embed_dims": (8, 12, 16, 24),
    "ca_num_heads": (4, 4, 4, -1),
    "sa_num_heads": (-1, -1, 4, 4),
    "mlp_ratios": (2, 2, 2, 2),
    "depths": (1, 1, 2, 1),
}


def small(**changes):
    torch.manual_seed(0)
    language = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            vocab_size=40, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip
    plan = {"backbone": "smt_t", "arguments": SMALL, "level": -2, "tokens": 4, "size": 64, **changes}
    return build_vlm.build(build_vlm.Plan(**plan), language)


def batch(model):
    torch.manual_seed(1)
    picture = [model.plan.image_token_id] * build_vlm.n_image_tokens(model)
    ids = torch.tensor([[1, 5, *picture, 6, 7]])
    pictures = torch.randn(1, 3, 64, 64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pictures}


def test_it_answers_and_the_answer_depends_on_the_picture():
    model = small()
    inputs = batch(model)
    answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[0] == 1 and answer.shape[1] > inputs["input_ids"].shape[1]
    with torch.no_grad():
        seen, other = (
            model(**{**inputs, "pixel_values": inputs["pixel_values"] * factor}).logits for factor in (1, -1)
        )
    assert not torch.allclose(seen, other)


def test_one_step_of_training_lowers_the_loss():
    model = small().train()
    inputs = batch(model)
    inputs["labels"] = inputs["input_ids"]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    before = model(**inputs).loss
    before.backward()
    for name in (
        "model.vision_tower.backbone.stages.0.block.0.mlp.fc1.weight",
        "model.multi_modal_projector",
    ):
        part = dict(model.named_parameters()).get(name)
        weights = [part] if part is not None else list(model.get_submodule(name).parameters())
        assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in weights), name
    optimiser.step()
    assert model(**inputs).loss < before


def test_a_saved_model_comes_back_the_same(tmp_path):
    model = small(connector="linear")
    build_vlm.save(model, tmp_path)
    back = build_vlm.load(tmp_path)
    assert back.plan.connector == "linear" and type(back.model.multi_modal_projector).__name__ == "Linear"
    with torch.no_grad():
        assert torch.equal(back(**batch(back)).logits, model(**batch(model)).logits)


@pytest.mark.parametrize(("level", "tokens", "expected"), [(-1, 0, 4), (1, 0, 64), (1, 9, 9)])
def test_level_and_number_of_tokens_are_chosen(level, tokens, expected):
    model = small(level=level, tokens=tokens)
    assert build_vlm.n_image_tokens(model) == expected
    with torch.no_grad():
        assert torch.isfinite(model(**batch(model)).logits).all()


def test_a_number_of_tokens_that_is_no_square_is_refused():
    with pytest.raises(BadInput, match="square"):
        small(tokens=5)


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"build\.json"):
        build_vlm.load(tmp_path)
