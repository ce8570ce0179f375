from pathlib import Path
from typing import Any

import pytest
import torch
from golden_files import Case, close, close_grad, golden, read
from golden_tensors import known
from torch import Tensor
from torch.nn import functional as F

from vlmtools.adapters._p_laplacian import Bottleneck, PLayer, edge_weights, own, smooth_paper
from vlmtools.adapters._tiny import llava
from vlmtools.adapters.p_adapter import OFFICIAL, PAdapter, pooled
from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._cache import cache_argument, held_cache


def _mine(name: str) -> str | None:
    for theirs, mine in OFFICIAL.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return mine + name.removeprefix(theirs)
    return None


def _load(layer: torch.nn.Module, case: Case) -> None:
    layer.load_state_dict({_mine(k): v for k, v in case.state.items() if _mine(k)})


def _out(case: Case, x: Tensor, residual: Tensor, eps: float) -> Tensor:
    s = case.state
    return F.layer_norm(x + residual, x.shape[-1:], s["LayerNorm.weight"], s["LayerNorm.bias"], eps)


@pytest.mark.golden
@pytest.mark.parametrize(
    "path", [*golden("p-adapter/self*.safetensors"), *golden("p-adapter/cross*.safetensors")]
)
def test_attention_adapters_give_the_authors_values_and_gradients(path: Path) -> None:
    case = read(path)
    c, s = case.config, case.state
    known(
        c,
        "cross dropout hidden_size image_sample_len layer_norm_eps learnable_p mu num_heads num_key num_query p "
        "reduction_factor",
    )
    layer = PLayer(
        c["hidden_size"], c["num_heads"], c["reduction_factor"], c["p"], c["mu"], c["learnable_p"], False
    )
    _load(layer, case)
    context = case["context"].clone().requires_grad_()

    def dense(x: Tensor) -> Tensor:
        return F.linear(x, s["dense.weight"], s["dense.bias"])

    h, a = dense(context), case["attention_probs"]
    if c["cross"]:
        a, nodes = pooled(a, c["image_sample_len"]), pooled(case["value"].mT, c["image_sample_len"]).mT
        close(torch.cat([case["query"], nodes], 1), case["nodes"], "nodes")
        added = layer(h, a, dense(case["query"]), dense(nodes), "bipartite", keep=False)
    else:
        added = layer(h, a, dense(case["value"]), dense(case["value"]), "official")
    y = _out(case, h + added, case["residual_input"], c["layer_norm_eps"])
    close(y, case["y"], "y")
    close(_out(case, h, case["residual_input"], c["layer_norm_eps"]), case["y_without_adapter"], "without")
    (y.square() * torch.arange(y.shape[-1])).mean().backward()
    for name, grad in case.grads.items():
        mine = context.grad if name == "context" else layer.get_parameter(str(_mine(name))).grad
        close_grad(mine, grad, name)


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("p-adapter/ffn*.safetensors"))
def test_the_feed_forward_adapter_gives_the_authors_values(path: Path) -> None:
    case = read(path)
    s, c = case.state, case.config
    known(c, "hidden_size intermediate_size layer_norm_eps reduction_factor")
    layer = Bottleneck(c["hidden_size"], c["reduction_factor"], from_zero=False)
    _load(layer, case)
    ffn = F.linear(case["ffn_hidden"], s["dense.weight"], s["dense.bias"])
    eps = c.get("layer_norm_eps", 1e-12)
    close(_out(case, ffn + layer(case["input"]), case["input"], eps), case["y"], "y")


def test_the_layers_have_the_papers_numbers_of_parameters() -> None:
    attention = PAdapter().layer({"kind": "self", "dim": 768, "n_heads": 12})
    ffn = PAdapter().layer({"kind": "ffn", "dim": 768, "n_heads": 12})
    assert [sum(p.numel() for p in one.parameters()) for one in (attention, ffn)] == [222_146, 148_320]


@pytest.mark.parametrize("graph", ["official", "bipartite"])
def test_step_by_step_decoding_equals_the_full_pass(graph: Any) -> None:
    model, inputs = llava()
    with PAdapter(graph=graph, reduction=2).attach(model) as part:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for one in part.parameters():
                one.add_(torch.randn(one.shape, generator=generator) * 0.1)
        tokens = torch.tensor([[8, 3, 11]])
        cache = held_cache(model(**inputs))
        steps = []
        for i in range(3):
            out = model(input_ids=tokens[:, i : i + 1], **cache_argument(model, cache))
            cache = held_cache(out)
            steps.append(out.logits)
        ids = torch.cat([inputs["input_ids"], tokens], 1)
        full = model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[:, -3:]
    torch.testing.assert_close(torch.cat(steps, 1), full, rtol=0, atol=1e-5)


@pytest.mark.parametrize("graph", ["official", "bipartite", "paper"])
def test_forward_and_backward_stay_finite_in_bfloat16_at_low_p(graph: str) -> None:
    torch.manual_seed(0)
    layer = PLayer(32, 4, 4, 1.25, 0.1, True, False).bfloat16()
    h, nodes, other = (torch.randn(2, 9, 32).bfloat16().requires_grad_() for _ in range(3))
    a = torch.randn(2, 4, 9, 9).softmax(-1).bfloat16()
    y = layer(h, a, nodes, nodes if graph == "official" else other, graph)
    y.float().square().mean().backward()
    grads = [p.grad for p in layer.parameters()] + [h.grad, nodes.grad]
    assert torch.isfinite(y).all() and all(g is not None and torch.isfinite(g).all() for g in grads)


def test_the_self_loop_outweighs_the_row_in_the_official_graph_and_is_gone_without_loops() -> None:
    torch.manual_seed(0)
    a, nodes = torch.rand(1, 12, 20, 20).softmax(-1), torch.randn(1, 12, 20, 8)
    for p, least, most in ((1.25, 0.99, 1.0), (2.0, 0.0, 0.1)):
        weights = edge_weights(a, nodes, nodes, p, True)
        share = (weights.diagonal(dim1=-2, dim2=-1) / weights.sum(-1)).mean()
        assert least <= float(share) <= most
    none = edge_weights(a, nodes, nodes, 1.25, True, loops=False)
    assert not none.diagonal(dim1=-2, dim2=-1).any() and torch.isfinite(none).all()


def test_rows_of_one_step_are_the_last_columns() -> None:
    assert own(torch.zeros(1, 1, 2, 5)).nonzero().tolist() == [[0, 3], [1, 4]]


def test_the_papers_graph_at_p_two_is_normalised_smoothing() -> None:
    torch.manual_seed(0)
    a, q, v = (
        torch.rand(1, 1, 3, 4).double().softmax(-1),
        torch.randn(1, 1, 3, 5).double(),
        torch.randn(1, 1, 4, 5).double(),
    )
    mu = 0.3
    alpha = 1 / (1 + mu)
    wanted = alpha * (a / a.sum(-2, keepdim=True).sqrt()) @ v + alpha * mu * q
    torch.testing.assert_close(smooth_paper(a, q, v, 2.0, mu), wanted, rtol=1e-6, atol=1e-6)


def test_the_papers_graph_is_refused_in_a_causal_decoder_and_taken_in_a_vision_tower() -> None:
    model, inputs = llava()
    with pytest.raises(CannotAttach, match="bipartite"):
        PAdapter(graph="paper", reduction=2).attach(model)
    with PAdapter(graph="paper", reduction=2, tower="vision").attach(model):
        assert torch.isfinite(model(**inputs).logits).all()


def _blip() -> tuple[Any, dict[str, Tensor]]:
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(0)
    text = {
        "vocab_size": 40, "hidden_size": 32, "encoder_hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "sep_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 4,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config=vision)
    inputs = {"pixel_values": torch.randn(1, 3, 16, 16), "input_ids": torch.tensor([[1, 5, 6, 7]])}
    return BlipForConditionalGeneration(config).eval(), inputs


@pytest.mark.parametrize("graph", ["official", "bipartite"])
def test_blip_gets_adapters_on_self_cross_and_feed_forward_blocks(graph: Any) -> None:
    model, inputs = _blip()
    before = model(**inputs).logits
    with PAdapter(graph=graph, reduction=2, pool=5).attach(model) as part:
        kinds = [sizes["kind"] for sizes in part.sizes.values()]
        assert sorted(kinds) == ["cross"] * 2 + ["ffn"] * 2 + ["self"] * 2
        torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)
        torch.manual_seed(0)
        for one in part.parameters():
            torch.nn.init.normal_(one, std=0.1) if one.ndim > 1 else None
        after = model(**inputs).logits
        assert not torch.allclose(after, before, atol=1e-4)
        after.square().mean().backward()
        assert all(one.grad is not None and one.grad.any() for one in part.layers.parameters())
    assert torch.equal(model(**inputs).logits, before)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(BadInput, match="p ≥ 1"):
        PAdapter(p=0.5)
    model, _ = llava()
    with pytest.raises(CannotAttach, match="Choose a reduction"):
        PAdapter(reduction=3).attach(model)


def test_in_the_bipartite_graph_no_node_sends_to_itself() -> None:
    torch.manual_seed(0)
    a, rows, columns = torch.rand(1, 2, 3, 5).softmax(-1), torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    square = torch.cat([torch.cat([torch.zeros(1, 2, 3, 3), a], -1), F.pad(a.mT, (0, 5))], -2)
    nodes = torch.cat([rows, columns], -2)
    whole = square * (
        (square + 1e-8).sqrt()[..., None] * (nodes[..., None, :, :] - nodes[..., None, :]) + 1e-8
    ).norm(dim=-1) ** (1.25 - 2)
    assert not whole.diagonal(dim1=-2, dim2=-1).any()
    ours = edge_weights(a, rows, columns, 1.25, False)
    torch.testing.assert_close(ours, whole[..., :3, 3:])
    torch.testing.assert_close(ours.sum(-1), whole[..., :3, :].sum(-1))
