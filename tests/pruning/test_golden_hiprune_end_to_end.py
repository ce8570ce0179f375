"""Whole runs of the released Qwen2.5-VL program: kept tokens, positions, logits, answer and cache, from pixels on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_end_to_end import Case, Unreadable, read_case, rows_of, stored_runs
from released_qwen import released
from safetensors.torch import load_file, save_file
from test_hiprune_end_to_end import LAYERS, model, prompt
from torch import Tensor

from vlmtools.families._cache import held_cache
from vlmtools.pruning.hiprune import HiPrune

TOLERANCE = 1e-4


@pytest.mark.golden
@pytest.mark.parametrize("files", stored_runs())
def test_compat_repeats_a_stored_run_of_the_released_program(files: tuple[Path, ...], tmp_path: Path) -> None:
    check(read_case(files), tmp_path)


def loaded(case: Case, folder: Path) -> Any:
    """The model, through a folder on disk, so that transformers translates names and settings of older releases."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    told = {
        **case.config,
        "model_type": "qwen2_5_vl",
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    }
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    weights = {name: one.contiguous().clone() for name, one in case.weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    made, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True
    )
    missing = [name for name in info["missing_keys"] if name != "lm_head.weight"]
    if missing or info["unexpected_keys"]:
        raise Unreadable(
            f"Weights do not fit: {missing} are missing, {sorted(info['unexpected_keys'])} are left over, of "
            f"{', '.join(case.weights)}."
        )
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = None, 0
    return made.eval()


def pruner(case: Case) -> HiPrune:
    """With the settings that are stored, and the program's own where none are."""
    alpha = case.find("alpha", needed=False)
    return HiPrune(keep=case.retention, compat=True, alpha=alpha if isinstance(alpha, float) else 0.1)


def check(case: Case, folder: Path) -> None:
    """Everything that is stored against compat HiPrune on the model as it is loaded."""
    one, batch, read = loaded(case, folder), case.inputs, list[Tensor]()
    tokens = case.tensor(
        "tokens", "greedy_tokens", "greedy", "new_tokens", "generated", "generated_ids"
    ).flatten()
    length, n_new = batch["input_ids"].shape[1], len(tokens)
    handle = one.get_decoder().register_forward_pre_hook(
        lambda _m, _a, kwargs: read.append(kwargs["position_ids"]), with_kwargs=True
    )
    options = {
        "do_sample": False,
        "max_new_tokens": n_new,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    with pruner(case).attach(one) as on, torch.no_grad():
        logits = one(**batch).logits[0]
        views = on.report().views
        out = one.generate(**batch, **options)
    handle.remove()
    places = (batch["input_ids"][0] == case.image_token).nonzero()[:, 0]
    text = (batch["input_ids"][0] != case.image_token).nonzero()[:, 0]
    kept = torch.cat([text, places[views[0].selection.kept]]).sort().values
    assert kept.tolist() == case.kept
    positions = case.tensor("position_ids", "positions").long().reshape(3, -1)
    positions = positions[:, case.kept] if positions.shape[1] == length != len(case.kept) else positions
    assert read[0][-3:, 0].tolist() == positions.tolist()
    _check_logits(case, logits, torch.cat(out.logits))
    assert out.sequences[0, length:].tolist() == tokens.tolist()
    _check_cache(case, held_cache(out).get_seq_length(), len(case.kept), n_new)


def _check_logits(case: Case, whole: Tensor, steps: Tensor) -> None:
    """Stored are those of the whole short prompt, or of its last token, or of each new token."""
    stored = rows_of(case.tensor("logits", "prefill_logits", "last_logits"))
    mine = whole if len(stored) == len(whole) else steps[: len(stored)]
    assert mine.shape == stored.shape, (
        f"{len(stored)} rows of logits are neither {len(whole)} nor {len(steps)}"
    )
    assert torch.allclose(mine, stored, atol=TOLERANCE, rtol=0)


def _check_cache(case: Case, held: int, short: int, n_new: int) -> None:
    """The program's last token may have been read as well: then its cache is one longer than that of `generate`."""
    assert held == short + n_new - 1
    stored = case.find("kv_length", "kv_len", "cache_length", "kv", needed=False)
    assert stored is None or int(stored) in (held, held + 1)


LAYOUTS = ("plain", "filed", "older")
OLDER_TEXT = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "rms_norm_eps", "max_position_embeddings", "hidden_act",
)  # fmt: skip
"""Settings of the language model that once lay beside those of the whole."""


def stored(folder: Path, layout: str, grid: tuple[int, int] = (12, 20)) -> tuple[Path, ...]:
    """A run done by hand, written to disk as someone might."""
    one, batch, share = model(), prompt(grid), 0.334
    found = released(one, batch, share, LAYERS, 4)
    image = (batch["input_ids"][0] == 127).nonzero()[:, 0]
    weights = dict(one.state_dict())
    config: dict[str, Any] = one.config.to_dict()
    stays = torch.ones(batch["input_ids"].shape[1], dtype=torch.bool)
    stays[image] = False
    stays[image[found.kept]] = True
    kept: Any = found.kept
    if layout == "older":  # as in transformers before 4.52; with a mask and the last token's logits
        weights = {_older(name): value for name, value in weights.items()}
        text = config.pop("text_config")
        config |= {name: text[name] for name in OLDER_TEXT} | {"rope_theta": 10000.0}
        config["rope_scaling"] = {"type": "mrope", "mrope_section": text["rope_parameters"]["mrope_section"]}
        kept = stays
    prefix = {"plain": "state.", "filed": "weights/", "older": ""}[layout]
    data = {f"{prefix}{name}": value.clone().contiguous() for name, value in weights.items()}
    data |= {f"inputs.{name}": one for name, one in batch.items() if name != "mm_token_type_ids"}
    data |= {"expected.position_ids": found.positions[:, None].contiguous()}
    data |= {"expected.logits": found.logits[-1:] if layout == "older" else found.logits[None]}
    data = {name: value.clone() for name, value in data.items()}
    told: dict[str, Any] = {"cases": [{"id": "tiny", "config": config, "retention": share, "alpha": 0.1}]}
    told["tokens"], told["kv_length"] = found.tokens, int(stays.sum()) + 3
    if isinstance(kept, Tensor):
        data["keep_mask"] = kept
    else:
        told["kept"] = kept
    if layout == "filed":
        config["text"], config["vision"] = config.pop("text_config"), config.pop("vision_config")
        told["cases"][0]["n_image_tokens"] = len(image)
        told.pop("kv_length")
        told["cases"][0].pop("retention")
    paths = folder / "qwen_tiny_e2e.json", folder / "qwen_tiny_e2e.safetensors"
    paths[0].write_text(json.dumps(told, default=str), encoding="utf-8")
    save_file(data, paths[1])
    return paths


def _older(name: str) -> str:
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_is_read_in_several_layouts(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    check(read_case(stored(tmp_path, layout)), folder)


@pytest.mark.parametrize("what", ["kept", "tokens", "kv_length"])
def test_a_wrong_number_in_a_stored_run_is_noticed(what: str, tmp_path: Path) -> None:
    files = stored(tmp_path, "plain")
    told = json.loads(files[0].read_text(encoding="utf-8"))
    told[what] = told[what] + 5 if what == "kv_length" else [told[what][0] + 1, *told[what][1:]]
    files[0].write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(AssertionError):
        check(read_case(files), tmp_path)


@pytest.mark.parametrize("what", ["expected.logits", "expected.position_ids"])
def test_a_wrong_tensor_in_a_stored_run_is_noticed(what: str, tmp_path: Path) -> None:
    files = stored(tmp_path, "plain")
    data = load_file(files[1])
    data[what].view(-1)[0] += 1
    save_file(data, files[1])
    with pytest.raises(AssertionError):
        check(read_case(files), tmp_path)


def test_a_layout_that_is_not_understood_lists_every_name(tmp_path: Path) -> None:
    files = stored(tmp_path, "plain")
    told = json.loads(files[0].read_text(encoding="utf-8"))
    told["written"] = told.pop("tokens")
    files[0].write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(Unreadable, match=r"Nothing is called tokens.*inputs\.pixel_values.*written"):
        check(read_case(files), tmp_path)
    files[0].write_text("{}", encoding="utf-8")
    with pytest.raises(Unreadable, match=r"No vision_config.*state\.lm_head\.weight"):
        read_case(files)
