"""The Hyena operator."""

from pathlib import Path

import pytest
import torch
from golden_tensors import known, read, same_value
from places import cases, golden_roots

from vlmtools.adapters._official_names import translated
from vlmtools.layers.hyena import OFFICIAL_NAMES, Hyena, causal_convolution


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/hyena/*.json"))
def test_hyena_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "d_model emb_dim filter_order l_max order")
    n_sine = sum(name.endswith(".freq") for name in case.state)
    operator = Hyena(
        config["d_model"], config["l_max"], config["order"], config["emb_dim"], config["filter_order"], n_sine
    )
    made = {name: tensor.clone() for name, tensor in operator.state_dict().items()}
    operator.load_state_dict(translated(case.state, OFFICIAL_NAMES))
    same_value(operator(case["x"]), case["y"])
    same_value(operator(case["x_short"]), case["y_short"])
    for name in ("position", "time", "decay"):
        same_value(made[f"long_filter.{name}"], operator.state_dict()[f"long_filter.{name}"])


@pytest.mark.parametrize("order", [2, 3])
def test_the_outputs_of_a_prefix_are_the_prefix_of_the_outputs(order: int) -> None:
    torch.manual_seed(0)
    operator, x = Hyena(8, 32, order), torch.randn(2, 32, 8)
    torch.testing.assert_close(operator(x[:, :13]), operator(x)[:, :13], rtol=0, atol=1e-4)


def test_every_convolution_has_its_own_block_of_filters() -> None:
    torch.manual_seed(0)
    dim, n_seq = 4, 9
    operator, x = Hyena(dim, n_seq, order=3), torch.randn(2, n_seq, dim)
    first, last = operator.long_filter(n_seq).split(dim, dim=-1)
    skip_first, skip_last = operator.long_filter.skip.split(dim)
    short = operator.short_filter(operator.in_proj(x).mT)[..., :n_seq]
    out, middle, inner, v = short.split(dim, dim=1)
    v = causal_convolution(v * inner, first.T) + v * inner * skip_first[:, None]
    v = causal_convolution(v * middle, last.T) + v * middle * skip_last[:, None]
    torch.testing.assert_close(operator(x), operator.out_proj((v * out).mT))


def test_the_fast_convolution_is_the_sum_it_stands_for() -> None:
    torch.manual_seed(0)
    x, kernel = torch.randn(2, 3, 7), torch.randn(3, 7)
    plain = torch.stack([sum(kernel[:, k] * x[..., t - k] for k in range(t + 1)) for t in range(7)], dim=-1)
    torch.testing.assert_close(causal_convolution(x, kernel), plain)
