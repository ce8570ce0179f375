from pathlib import Path

import pytest
import torch
from golden_files import close, close_grad, golden, read
from golden_tensors import known
from torch import Tensor

from vlmtools.adapters._hga import group_attention
from vlmtools.adapters._moe import Experts, Routing, balance_loss, fits_grouped, route, stack_official, z_loss
from vlmtools.adapters.mocha import Mocha, MochaModel, Tower
from vlmtools.errors import BadInput


def _edge_count(sizes: list[int], k: int, intra: float) -> int:
    inside, total = int(k * intra), sum(sizes)
    return 2 * sum(n * (min(inside, n - 1) + min(k - inside, total - n)) for n in sizes)


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("mocha-moec/*.safetensors"))
def test_the_connector_gives_the_authors_values_losses_and_gradients(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "channels mm_channels num_experts num_selected")
    connector = Mocha(
        d_in=config["mm_channels"], d_out=config["channels"], n_experts=config["num_experts"],
        n_chosen=config["num_selected"],
    )  # fmt: skip
    connector.load_official(case.state)
    x = case["x"].clone().requires_grad_()
    y = connector(x)
    routing, losses = connector.routing(x), connector.aux_losses()
    close(y, case["y"], "y")
    close(routing.logits, case["gate_logits"], "logits")
    assert torch.equal(routing.chosen, case["topk_idx"])
    close(routing.weight, case["topk_weight"], "weight")
    close(losses["balance"], case["balance_loss"], "balance")
    close(losses["z"], case["router_z_loss"], "z")
    (y.square().mean() + connector.aux_loss()).backward()
    silent = {name: torch.zeros_like(one) for name, one in case.state.items()}  # an expert without tokens
    wanted = stack_official({**silent, **case.grads}, "0", "2")
    close_grad(x.grad, case.grads["x"], "x")
    close_grad(connector.gate.weight.grad, case.grads["gate.weight"], "gate")
    for name, grad in wanted.items():
        close_grad(connector.experts.get_parameter(name).grad, grad, name)


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("mocha-hga/*.safetensors"))
def test_group_attention_gives_the_authors_graph_values_and_gradient(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "channels cross_weight feature_scale group_sizes k")
    x = case["features"].clone().requires_grad_()
    mixed = group_attention(x[None], case["group_idx"], config["k"], config["cross_weight"])
    close(mixed.aggregated[0], case["aggregated"], "aggregated")
    close(mixed.gate[0], case["gate"], "gate")
    close(mixed.y[0], case["y"], "y")
    n = len(case["features"])
    theirs = torch.zeros(n, n).index_put(tuple(case["edge_index"]), case["edge_weight"], accumulate=True)
    close((mixed.edges + mixed.edges.mT)[0], theirs, "edges")
    assert 2 * int(mixed.kept.sum()) == case["edge_index"].shape[1]
    assert 2 * int(mixed.kept.sum()) == _edge_count(
        config["group_sizes"], config["k"], config["cross_weight"]
    )
    channels = torch.arange(x.shape[1], dtype=x.dtype)
    (mixed.y[0].square() * channels).mean().backward()
    close_grad(x.grad, case.grads["features"], "features")


def _pair(n_experts: int = 4) -> tuple[Experts, Tensor]:
    torch.manual_seed(0)
    return Experts(n_experts, 8, 12, 12), torch.randn(3, 7, 8)


@pytest.mark.parametrize("empty", [False, True])
def test_grouped_products_and_the_loop_agree_also_when_an_expert_gets_no_token(empty: bool) -> None:
    experts, x = _pair()
    logits = torch.randn(3, 7, 4)
    logits[..., 2] -= 100.0 * empty
    routing = route(logits, 2)
    assert (2 in routing.chosen) is not empty
    found = []
    for grouped in (True, False):
        experts.zero_grad()
        inner = x.clone().requires_grad_()
        y = experts(inner, routing, grouped)
        y.square().mean().backward()
        found.append([y, inner.grad, *(one.grad for one in experts.parameters())])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_widths_that_grouped_products_cannot_take_fall_back_to_the_loop() -> None:
    odd, x = Experts(2, 6, 6, 6), torch.randn(1, 3, 6)
    assert not fits_grouped(x, odd.w1, odd.w2)
    assert odd(x, route(torch.randn(1, 3, 2), 1)).shape == (1, 3, 6)
    assert not fits_grouped(torch.randn(1, 3, 4).bfloat16(), torch.randn(2, 4, 8).bfloat16())


def test_a_uniform_router_has_balance_one_whatever_is_chosen() -> None:
    first = torch.randint(0, 4, (3, 11, 1), generator=torch.Generator().manual_seed(1))
    even = torch.full((3, 11, 4), 0.25)
    routing = Routing(torch.zeros(3, 11, 4), even, first, torch.ones(3, 11, 1))
    assert abs(float(balance_loss(routing)) - 1) < 1e-6
    assert abs(float(z_loss(routing)) - torch.tensor(4.0).log().square()) < 1e-6


def test_balance_takes_means_inside_each_sample_first() -> None:
    logits = torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])
    apart = balance_loss(route(logits, 1))
    together = balance_loss(route(logits.reshape(1, 2, 2), 1))
    assert float(apart) > 1.9 and abs(float(together) - 1) < 1e-3


@pytest.mark.parametrize(("width", "count"), [(2560, 36_724_736), (4096, 83_922_944)])
def test_the_connector_has_the_papers_number_of_parameters(width: int, count: int) -> None:
    with torch.device("meta"):
        connector = Mocha(d_in=1024, d_out=width)
    assert sum(one.numel() for one in connector.parameters()) == count


@pytest.mark.parametrize("sizes", [[6, 4, 8, 8], [1, 2, 9], [30, 30]])
def test_the_number_of_edges_follows_from_the_group_sizes(sizes: list[int]) -> None:
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = torch.randn(2, len(group), 16, generator=torch.Generator().manual_seed(2))
    kept = group_attention(x, group, 10, 0.7).kept
    assert kept.sum((1, 2)).mul(2).tolist() == [_edge_count(sizes, 10, 0.7)] * 2


def test_permuting_tokens_inside_a_group_permutes_the_output() -> None:
    group = torch.tensor([0] * 6 + [1] * 5)
    x = torch.randn(1, 11, 16, generator=torch.Generator().manual_seed(3))
    order = torch.tensor([3, 1, 0, 2, 5, 4, 10, 6, 8, 7, 9])
    mine, moved = group_attention(x, group).y, group_attention(x[:, order], group).y
    torch.testing.assert_close(moved, mine[:, order], rtol=0, atol=1e-5)


def test_more_experts_chosen_than_there_are_is_refused() -> None:
    with pytest.raises(BadInput, match="n_chosen=5 of n_experts=4"):
        Mocha(n_chosen=5)


def _towers() -> list[Tower]:
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        ConvNextConfig,
        ConvNextModel,
        Dinov2Config,
        Dinov2Model,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(0)
    plain = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    return [
        Tower(SiglipVisionModel(SiglipVisionConfig(**plain))),
        Tower(
            ConvNextModel(ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 1, 1])), channel_pool=3
        ),
        Tower(CLIPVisionModel(CLIPVisionConfig(**plain))),
        Tower(Dinov2Model(Dinov2Config(**plain))),
    ]


def _model(**settings: bool) -> tuple[MochaModel, Tensor, Tensor]:
    from transformers import LlamaConfig, LlamaForCausalLM

    language = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip
    model = MochaModel(language, _towers(), Mocha(), image_token_id=39, **settings).eval()
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    n = model.n_image_tokens(pixels)
    ids = torch.tensor([[1, *[39] * n, 5, 6, 7]]).repeat(2, 1)
    return model, ids, pixels


def test_four_encoders_before_a_language_model_answer_and_see_the_picture() -> None:
    model, ids, pixels = _model()
    assert [tower.features(pixels).shape for tower in model.towers] == [
        (2, 16, 16), (2, 1, 8), (2, 16, 16), (2, 16, 16)
    ]  # fmt: skip
    one, other = model(ids, pixels).logits[:, -1], model(ids, pixels.flip(0)).logits[:, -1]
    torch.testing.assert_close(one, other.flip(0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one, other, atol=1e-6)
    assert model.generate(ids, pixels, max_new_tokens=3, do_sample=False).shape[1] <= 3


def test_only_connectors_train_in_stage_one_and_the_loss_contains_theirs() -> None:
    model, ids, pixels = _model()
    model.train()
    output = model(ids, pixels, labels=ids)
    plain = model.eval()(ids, pixels, labels=ids).loss
    torch.testing.assert_close(output.loss, plain + model.aux_loss())
    output.loss.backward()
    trained = {name for name, one in model.named_parameters() if one.grad is not None and one.grad.any()}
    assert trained and all(name.startswith("connectors.") for name in trained)
    assert {name.split(".")[1] for name in trained} == {"0", "1", "2", "3"}
    assert all(one.requires_grad for one in model.stage(2).language_model.parameters())
    assert not any(one.requires_grad for tower in model.towers for one in tower.module.parameters())


def test_a_saved_model_answers_the_same_and_refuses_other_encoders(tmp_path: Path) -> None:
    model, ids, pixels = _model()
    model.save_pretrained(tmp_path)
    again = MochaModel.from_pretrained(tmp_path, model.language_model, model.towers).eval()
    assert torch.equal(model(ids, pixels).logits, again(ids, pixels).logits)
    with pytest.raises(BadInput, match="other encoders"):
        MochaModel.from_pretrained(tmp_path, model.language_model, model.towers[::-1])


def test_a_prompt_with_another_number_of_image_tokens_is_refused() -> None:
    model, ids, pixels = _model(group=False)
    with pytest.raises(BadInput, match="image tokens"):
        model(ids[:, 2:], pixels)
