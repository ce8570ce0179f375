"""LargeGT's codebook and neighbour reader, and LightHGNN's losses."""

from pathlib import Path

import pytest
import torch
from golden_tensors import known, read, same_value
from places import cases, golden_roots

from vlmtools.adapters._official_names import translated
from vlmtools.layers import ema_codebook, neighbour_reader
from vlmtools.layers import hypergraph_distillation as hypergraph


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/largegt/codebook*.json"))
def test_the_codebook_moves_as_the_authors_does(path: Path) -> None:
    case = read(path)
    known(case.config, "decay embedding_dim num_embeddings")
    before = translated(case.under("before."), ema_codebook.OFFICIAL_NAMES)
    book = ema_codebook.EmaCodebook(*before["entries"].shape, decay=case.config["decay"])
    book.load_state_dict(before)
    for step in range(sum(name.startswith("x") for name in case.tensors)):
        assert torch.equal(book(case[f"x{step}"]), case[f"idx{step}"])
    for name, tensor in translated(case.under("after."), ema_codebook.OFFICIAL_NAMES).items():
        same_value(book.state_dict()[name], tensor)


def test_a_codebook_in_evaluation_does_not_move() -> None:
    book = ema_codebook.EmaCodebook(4, 6).eval()
    before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
    book(torch.randn(5, 6))
    assert all(torch.equal(before[name], tensor) for name, tensor in book.state_dict().items())


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/largegt/local*.json"))
def test_the_neighbour_reader_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    config = case.config
    known(config, "hidden_dim input_dim n_layers node_only_readout num_heads seq_len")
    reader = neighbour_reader.NeighbourReader(
        config["input_dim"], config["hidden_dim"], config["num_heads"], config["n_layers"],
        config["node_only_readout"],
    )  # fmt: skip
    reader.load_state_dict(translated(case.state, neighbour_reader.OFFICIAL_NAMES))
    same_value(reader(case["x"]), case["y"].reshape(len(case["x"]), -1))


@pytest.mark.parametrize("n_heads", [1, 3])
def test_the_result_is_as_wide_as_all_heads_and_only_some_neighbours_are_read_if_asked(n_heads: int) -> None:
    torch.manual_seed(0)
    reader = neighbour_reader.NeighbourReader(5, 4, n_heads, 2, own_only=True)
    x = torch.randn(2, 10, 5)
    assert reader(x).shape == (2, 4 * n_heads)
    for layer in reader.layers:
        torch.nn.init.zeros_(layer.out.weight)  # tokens stay by themselves
    moved = [not torch.equal(reader(x), reader(x + (torch.arange(10) == i)[:, None])) for i in range(10)]
    assert [i for i, one in enumerate(moved) if one] == [0, 4, 7]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/lighthgnn/*.json"))
def test_the_hypergraph_losses_give_the_authors_numbers(path: Path) -> None:
    case = read(path)
    known(case.config, "noise_level tau")
    level, tau = case.config["noise_level"], case.config["tau"]
    weight, bias = case.state["weight"], case.state["bias"]
    clean, noisy = (
        torch.nn.functional.linear(x, weight, bias)
        for x in (case["X"], case["X"] * (case["noise"] + 1) * level)
    )
    incidence, student, teacher = case["incidence"], case["student_logits"], case["teacher_logits"]
    same_value(hypergraph.edge_reliability(clean, noisy, incidence), case["delta_e"])
    found = hypergraph.high_order_loss(student, teacher, incidence, case["edge_mask"].bool(), tau)
    same_value(found, case["loss_high_order"])
    same_value(hypergraph.soft_label_loss(student, teacher), case["loss_kd"])


def test_the_true_divergence_is_zero_only_for_an_equal_student() -> None:
    torch.manual_seed(0)
    teacher, other = torch.randn(6, 3), torch.randn(6, 3)
    incidence, every = torch.eye(6)[:, :4], torch.ones(4, dtype=torch.bool)
    assert hypergraph.high_order_loss(teacher, teacher, incidence, every, log_target=False) == 0
    assert hypergraph.high_order_loss(other, teacher, incidence, every, log_target=False) > 0
    assert hypergraph.soft_label_loss(teacher, teacher, log_target=False).abs() < 1e-6
