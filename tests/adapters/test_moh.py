from pathlib import Path

import attention_forms
import pytest
import torch
from golden_files import Case, close, close_grad, golden, read
from golden_tensors import known
from torch import Tensor

from vlmtools.adapters._tiny import llava
from vlmtools.adapters.moh import HeadGates, MoH, norm_gates, routed_gates
from vlmtools.errors import BadInput
from vlmtools.families._cache import cache_argument, held_cache


def _gates(case: Case) -> HeadGates:
    c = case.config
    dim = c["dim"]
    gates = HeadGates(dim, c["num_heads"], c["shared_head"], c["routed_head"])
    gates.load_official(case.state)
    return gates


def _vision(case: Case, x: Tensor, gates: Tensor) -> Tensor:
    c = case.config
    coords, index = case["rel_coords"], case["rel_index"]
    if "sr_ratio" not in c:
        return attention_forms.cosine(case.state, x, coords, index, c["num_heads"], gates)
    h, w = c["input_resolution"]
    return attention_forms.aggregated(
        case.state, x, coords, index, (h, w), c["num_heads"], c["window_size"], c["sr_ratio"], gates
    )


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("moh/vit*.safetensors"))
def test_the_vision_form_gives_the_authors_values_loss_and_gradients(path: Path) -> None:
    case = read(path)
    known(case.config, "dim input_resolution num_heads routed_head shared_head sr_ratio window_size")
    layer, x = _gates(case), case["x"].clone().requires_grad_()
    gates, loss = layer(x)
    y = _vision(case, x, gates)
    close(y, case["y"], "y")
    aux = torch.zeros(()) if loss is None else loss
    if "aux_loss" in case.tensors:
        close(aux, case["aux_loss"], "aux")
    if not case.grads:
        return
    (y.square().mean() + 0.01 * aux).backward()
    names = {"wg.weight": "routed.weight", "wg_1.weight": "shared.weight", "wg_0.weight": "balance.weight"}
    for name, grad in case.grads.items():
        close_grad(x.grad if name == "x" else layer.get_parameter(names[name]).grad, grad, name)


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("moh/dit*.safetensors"))
def test_the_diffusion_form_gives_the_authors_values_and_loss(path: Path) -> None:
    case = read(path)
    known(case.config, "dim head_dim num_heads qk_norm qkv_bias routed_head shared_head")
    gates, loss = _gates(case)(case["x"])
    y = attention_forms.dit(case.state, case["x"], case.config["num_heads"], gates, case.config["qk_norm"])
    close(y, case["y"], "y")
    if loss is not None:
        close(loss, case["aux_loss"], "aux")


@pytest.mark.golden
@pytest.mark.parametrize("path", golden("moh/llama*.safetensors"))
def test_the_llama_form_gives_the_authors_mask_and_values(path: Path) -> None:
    case = read(path)
    c, state, x = case.config, case.state, case["x"]
    known(c, "head_dim hidden_size num_heads num_key_value_heads rope_theta routed_head shared_head")
    q, k, v = (
        attention_forms.linear(state, f"{one}_proj", x).unflatten(-1, (-1, c["head_dim"])) for one in "qkv"
    )
    gates = norm_gates(q, c["shared_head"], c["routed_head"])
    assert torch.equal(gates, case["head_mask"])
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    groups = c["num_heads"] // c["num_key_value_heads"]
    q, k = (attention_forms.rotated(one, case["position_ids"], c["rope_theta"]) for one in (q, k))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    weights = (q @ k.mT * c["head_dim"] ** -0.5 + case["causal_mask"]).softmax(-1)
    close(weights, case["attn_weights"], "weights")
    close(attention_forms.linear(state, "o_proj", attention_forms.joined(weights @ v, gates)), case["y"], "y")


@pytest.mark.parametrize(("n_heads", "n_shared"), [(8, 2), (12, 4)])
def test_a_layer_adds_h_plus_two_times_d_parameters_and_the_llama_form_none(
    n_heads: int, n_shared: int
) -> None:
    layer = HeadGates(96, n_heads, n_shared, 2)
    assert sum(one.numel() for one in layer.parameters()) == (n_heads + 2) * 96
    norm = MoH(form="norm").layer({"dim": 96, "n_heads": n_heads, "head_dim": 8})
    assert not list(norm.parameters())


@pytest.mark.parametrize("tower", ["text", "vision", "all"])
@pytest.mark.parametrize("shared", [0.0, 0.25, 0.5, 1.0])
def test_with_all_heads_on_it_begins_as_the_base_model(tower: str, shared: float) -> None:
    model, inputs = llava()
    before = model(**inputs).logits
    with MoH(always_on=shared, tower=tower).attach(model):  # type: ignore[arg-type]
        torch.testing.assert_close(model(**inputs).logits, before, rtol=0, atol=1e-5)


def test_equal_gates_are_exactly_one() -> None:
    gates, _ = HeadGates(16, 8, 4, 4)(torch.randn(2, 5, 16))
    assert torch.equal(gates, torch.ones(2, 5, 8))


def test_the_llama_form_switches_heads_off_in_a_model_and_steps_like_a_full_pass() -> None:
    model, inputs = llava()
    before = model(**inputs).logits
    with MoH(always_on=0.25, active=0.5, form="norm").attach(model):
        after = model(**inputs)
        assert not torch.allclose(after.logits, before, atol=1e-6)
        token = torch.tensor([[8]])
        step = model(input_ids=token, **cache_argument(model, held_cache(after))).logits
        ids = torch.cat([inputs["input_ids"], token], 1)
        full = model(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
    torch.testing.assert_close(step[:, -1], full[:, -1], rtol=0, atol=1e-5)


def test_a_uniform_router_has_balance_one() -> None:
    loss = routed_gates(torch.zeros(2, 7, 6), 3).loss
    # every token chooses the same three of six: load is 1 for half of the heads
    assert loss is not None and abs(float(loss) - 36 * (1 / 6) * 0.5) < 1e-6


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_any_attention_kernel_works(kernel: str) -> None:
    model, inputs = llava()
    model.set_attn_implementation(kernel)
    with MoH(always_on=0.25, active=0.5).attach(model) as moh:
        torch.manual_seed(0)
        for one in moh.parameters():
            torch.nn.init.normal_(one)
        logits = model(**inputs).logits
    assert torch.isfinite(logits).all()


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(BadInput, match="always_on=0"):
        MoH(always_on=0.9, active=0.5)
