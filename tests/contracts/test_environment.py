"""Every patch under every attention kernel, half precision, 4-bit weights, offloading and compiling."""

from pathlib import Path
from typing import Any

import pytest
import torch
from matrix import PAIR, PATCHES, answer, attached, build, hooks, inputs, kernels, logits, patch, tiny, varied

from vlmtools.errors import CannotAttach
from vlmtools.families._loading import spare_odd_sizes

# torch warns about parts of its own that its compiler imports
torch_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@varied
def test_eager_and_sdpa_agree(name: str, kind: str) -> None:
    batch = inputs(kind, PAIR)
    found = []
    for attention in ("sdpa", "eager"):
        with attached(patch(name), tiny(kind, attention)):
            found.append(logits(tiny(kind, attention), batch))
    torch.testing.assert_close(found[0], found[1], atol=2e-3, rtol=1e-3)


@pytest.mark.slow
@torch_warns
@pytest.mark.parametrize("name", PATCHES)
def test_flex_agrees(name: str, kind: str = "llava") -> None:
    """One family: flex compiles for half a minute on a CPU, and does not run there with a head width below 16."""
    batch, model = inputs(kind, PAIR), tiny(kind, "flex_attention")
    with attached(patch(name), tiny(kind)):
        expected = logits(tiny(kind), batch)
    with attached(patch(name), model):
        torch.testing.assert_close(logits(model, batch), expected, atol=2e-3, rtol=1e-3)


@varied
def test_half_precision_runs_and_neutral_is_exact_there_too(name: str, kind: str) -> None:
    model = build(kind).to(torch.bfloat16)
    batch = {key: v.to(torch.bfloat16) if v.is_floating_point() else v for key, v in inputs(kind).items()}
    before = logits(model, batch)
    with attached(patch(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before)
    with attached(patch(name), model):
        changed = logits(model, batch)
        assert changed.dtype == torch.bfloat16
        assert changed.isfinite().all()
        answer(model, batch)
    assert torch.equal(logits(model, batch), before)


@torch_warns
@varied
def test_a_model_compiled_before_is_refused(name: str, kind: str) -> None:
    compiled = torch.compile(build(kind), backend="eager")
    with pytest.raises(CannotAttach, match="compile"):
        patch(name).attach(compiled)
    in_place = build(kind)
    in_place.compile(backend="eager")
    with pytest.raises(CannotAttach, match="compile"):
        patch(name).attach(in_place)


@pytest.mark.slow
@torch_warns
@pytest.mark.parametrize("name", PATCHES)
def test_a_model_compiled_after_attaching_follows_the_patch(name: str, kind: str = "llava") -> None:
    """One family: tracing a whole model takes ten seconds and more, patched or not."""
    torch.compiler.reset()
    model, batch = build(kind), inputs(kind)
    before = logits(model, batch)
    with attached(patch(name), model):
        expected = logits(model, batch)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(logits(compiled, batch), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(compiled, batch), before, atol=1e-4, rtol=1e-4)
    torch.compiler.reset()


@pytest.mark.slow
@varied
def test_four_bit_weights(name: str, kind: str, tmp_path: Path) -> None:
    model = _loaded(kind, tmp_path, quantization_config=_nf4())
    batch = inputs(kind)
    before = logits(model, batch)
    with attached(patch(name, neutral=True), model):
        assert torch.equal(logits(model, batch), before)
    with attached(patch(name), model):
        assert logits(model, batch).isfinite().all()
        answer(model, batch)
    assert torch.equal(logits(model, batch), before)


@pytest.mark.slow
@varied
def test_weights_offloaded_to_disk(name: str, kind: str, tmp_path: Path) -> None:
    from accelerate import disk_offload

    model, batch = build(kind), inputs(kind)
    with attached(patch(name), model):
        expected = logits(model, batch), answer(model, batch)
    disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    try:
        before = logits(model, batch), hooks(model), kernels(model)
        answer(model, batch)
    except RuntimeError as reason:
        pytest.skip(f"does not run offloaded without a patch either: {reason}")
    with attached(patch(name), model):
        assert torch.equal(logits(model, batch), expected[0])
        assert answer(model, batch) == expected[1]
    assert torch.equal(logits(model, batch), before[0])
    assert (hooks(model), kernels(model)) == before[1:]


def _nf4() -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )


def _loaded(kind: str, folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    build(kind).save_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, **options).eval()
    spare_odd_sizes(model)
    return model
