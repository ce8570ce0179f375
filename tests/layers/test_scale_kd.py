"""ScaleKD: projector, two views, soft labels, the teacher's last stage."""

from pathlib import Path

import pytest
import torch
from golden_tensors import Case, known, read, same_value
from places import cases, golden_roots
from torch import Tensor, nn

from vlmtools.adapters._official_names import translated
from vlmtools.layers import cross_attention_projector as projector
from vlmtools.layers import dual_view_distillation as dual


def _loaded(case: Case) -> dual.DualViewDistillation:
    config, state = case.config, case.state
    known(config, "alpha hw num_heads self_query softmax_scale student_dims teacher_dims")
    module = dual.DualViewDistillation(
        config["student_dims"], config["teacher_dims"], tuple(config["hw"]), config["num_heads"],
        config["self_query"], config["softmax_scale"], tuple(config["alpha"]),
    ).eval()  # fmt: skip
    views = {name: translated({name: t}, dual.OFFICIAL_NAMES) for name, t in state.items()}
    flat = {name: tensor for one in views.values() for name, tensor in one.items()}
    ours = {}
    for name, tensor in flat.items():
        view, _, rest = name.partition(".")
        ours |= {
            f"{view}.{key}": t for key, t in translated({rest: tensor}, projector.OFFICIAL_NAMES).items()
        }
    module.load_state_dict(
        {k: v for k, v in ours.items() if config["self_query"] or not k.endswith(".query")}
    )
    return module


def _given(case: Case) -> tuple[Tensor, Tensor]:
    """Queries for the spatial and the frequency projector; one set may serve both."""
    names = sorted(name for name in case.tensors if "query" in name and not name.startswith("state."))
    of_frequency = [name for name in names if name.endswith(("_f", "1")) or "freq" in name]
    others = [name for name in names if name not in of_frequency]
    return case[(others or of_frequency)[0]], case[(of_frequency or others)[0]]


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/scalekd/cap*.json"))
def test_the_projectors_and_both_views_give_the_authors_numbers(path: Path) -> None:
    case = read(path)
    module = _loaded(case)
    queries = None if case.config["self_query"] else _given(case)
    projected = module.project(case["student"], queries)
    for ours, name in zip(projected, ("proj_spatial", "proj_freq"), strict=True):
        same_value(ours, case[name])
    spatial, frequency = module(case["student"], case["teacher"], queries)
    same_value(spatial, case["loss_spatial"])
    same_value(frequency, case["loss_freq"])


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/scalekd/dct*.json"))
def test_the_cosine_transform_gives_the_authors_numbers(path: Path) -> None:
    case = read(path)
    known(case.config, "norm resolution")
    orthonormal = {None: False, "ortho": True}[case.config["norm"]]
    coefficients = dual.cosine_transform(case["x"], orthonormal)
    same_value(coefficients, case["dct2"])
    same_value(dual.inverse_cosine_transform(coefficients, orthonormal), case["roundtrip"])
    same_value(dual.without_mean(case["x"]), case["without_dc"])


@pytest.mark.golden
@pytest.mark.parametrize("path", cases(golden_roots(), "adapters/scalekd/kd*.json"))
def test_the_soft_label_loss_gives_the_authors_number(path: Path) -> None:
    case = read(path)
    known(case.config, "alpha ce_weight temp")
    found = dual.soft_label_loss(
        case["student_logits"], case["teacher_logits"], case.config["alpha"], case.config["temp"]
    )
    same_value(found, case["loss"])


def test_the_teachers_last_stage_teaches_and_does_not_learn() -> None:
    torch.manual_seed(0)
    stage = nn.Linear(8, 8).requires_grad_(False)
    projected = torch.randn(2, 9, 8, requires_grad=True)
    teacher = torch.randn(2, 8, 3, 3)
    loss = dual.teacher_perception(
        projected, stage, teacher, lambda rows: rows.transpose(1, 2).reshape(2, 8, 3, 3)
    )
    loss.backward()
    assert projected.grad is not None and projected.grad.abs().sum() > 0
    assert stage.weight.grad is None


def test_a_student_that_equals_its_teacher_loses_nothing() -> None:
    teacher = torch.randn(2, 4, 3, 3)
    assert dual.unit_distance(teacher, teacher) == 0
    assert dual.unit_distance(3 * teacher, teacher) < 1e-10
