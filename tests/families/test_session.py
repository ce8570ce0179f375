"""What a model is doing: prompts, phases, keys; and what is refused because it would go wrong in silence."""

from typing import Any

import pytest
import torch
from matrix import answer, build, inputs, logits, tiny
from torch import Tensor

from vlmtools.errors import BadInput
from vlmtools.families._cache import cache_argument
from vlmtools.families._prompt import Prompt, State, spread
from vlmtools.families._session import PLACE, Session
from vlmtools.patches.pai import PAI
from vlmtools.patches.vhr import VHR


def _prompt(image: list[list[int]], real: list[list[int]] | None = None) -> Prompt:
    shown = torch.tensor(image).bool()
    return Prompt({}, shown, torch.tensor(real).bool() if real else torch.ones_like(shown))


def _session(prompt: Prompt, past: int, n_new: int) -> Session:
    session = Session(None)  # type: ignore[arg-type]
    session.state = State(prompt, past=past, n_new=n_new)
    return session


def test_the_last_row_of_a_prompt_is_found_under_padding_on_either_side() -> None:
    prompt = _prompt([[0, 1, 0, 0], [0, 1, 0, 0]], [[0, 1, 1, 1], [1, 1, 1, 0]])
    assert prompt.last.tolist() == [3, 2]
    assert prompt.after_image.tolist() == [2, 2]


def test_image_keys_follow_the_cache() -> None:
    prompt = _prompt([[0, 1, 1, 0]])
    assert _session(prompt, 0, 4).image_keys(1, 4).tolist() == [[False, True, True, False]]
    assert _session(prompt, 5, 1).image_keys(1, 6).int().tolist() == [[0, 1, 1, 0, 0, 0]]
    # a static cache is longer than what it holds; a sliding layer has forgotten the first positions
    assert _session(prompt, 4, 1).image_keys(1, 8).int().tolist() == [[0, 1, 1, 0, 0, 0, 0, 0]]
    assert _session(prompt, 5, 1).image_keys(1, 4).int().tolist() == [[1, 0, 0, 0]]


def test_rows_are_counted_from_a_place_in_the_prompt() -> None:
    prompt = _prompt([[0, 1, 1, 0], [0, 1, 0, 0]])
    assert _session(prompt, 0, 4).rows_from(prompt.last, 2).int().tolist() == [[0, 0, 0, 1]] * 2
    assert _session(prompt, 0, 6).rows_from(prompt.last, 2).int().tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    assert _session(prompt, 7, 1).rows_from(prompt.last, 4).int().tolist() == [[1]] * 4


def test_beams_of_a_prompt_lie_side_by_side() -> None:
    assert spread(torch.tensor([1, 2]), 6).tolist() == [1, 1, 1, 2, 2, 2]
    with pytest.raises(BadInput, match="3 rows for 2 prompts"):
        spread(torch.tensor([1, 2]), 3)


def test_generate_tells_of_each_prompt_once_and_before_its_first_pass() -> None:
    model, order = tiny("llava"), []
    session = Session.open(model)
    told = session.on_prompt(lambda prompt: order.append(("prompt", prompt.length)))
    hook = session.anatomy.decoder.register_forward_hook(
        lambda *_: order.append(("pass", session.state.past))
    )
    answer(model, inputs("llava"), max_new_tokens=3)
    logits(model, inputs("llava"))
    told.remove()
    hook.remove()
    session.close()
    n = inputs("llava")["input_ids"].shape[1]
    assert order == [("prompt", n), ("pass", 0), ("pass", n), ("pass", n + 1), ("prompt", n), ("pass", 0)]
    assert PLACE not in vars(model)


def test_a_generate_of_the_user_s_own_is_used_and_put_back() -> None:
    model, calls = build("llava"), []
    inner = model.generate

    def own(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return inner(*args, **kwargs)

    model.generate = own
    with VHR().attach(model):
        answer(model, inputs("llava"))
    assert model.generate is own
    assert calls == [1]


def test_a_decoder_called_behind_the_model_s_back_is_refused() -> None:
    model = tiny("llava")
    with PAI(first_layer=0).attach(model), pytest.raises(BadInput, match="prompt of this pass is not known"):
        model.model.language_model(input_ids=torch.tensor([[1, 5]]))


def test_a_cache_filled_before_is_refused() -> None:
    from transformers import DynamicCache

    model, batch, cache = tiny("llava"), inputs("llava"), DynamicCache()
    with torch.no_grad():
        model(**batch, **cache_argument(model, cache))
    step = {"input_ids": torch.tensor([[5]]), **cache_argument(model, cache)}
    with PAI(first_layer=0).attach(model), torch.no_grad(), pytest.raises(BadInput, match="filled before"):
        model(**step)


def test_a_loop_written_by_hand_equals_generate() -> None:
    from transformers import DynamicCache

    model, batch, cache = tiny("llava"), inputs("llava"), DynamicCache()
    with VHR().attach(model), PAI(first_layer=0, strength=0.5).attach(model):
        expected = answer(model, batch)[0]
        found, given = [], dict(batch)
        for _ in expected:
            new = model(**given, **cache_argument(model, cache)).logits[:, -1].argmax(-1)
            found.append(int(new))
            given = {"input_ids": new[:, None]}
    assert found == expected


def test_a_second_stream_of_somebody_else_is_refused() -> None:
    model = tiny("llava")
    negative = torch.tensor([[1, 5, 6]])
    with VHR().attach(model), pytest.raises(BadInput, match="guidance_scale"):
        answer(model, inputs("llava"), guidance_scale=1.5, negative_prompt_ids=negative)


def test_a_failed_pass_is_forgotten() -> None:
    model, batch = tiny("llava"), inputs("llava")
    with PAI(first_layer=0, strength=0.5).attach(model):
        expected = logits(model, batch)
        broken = {**inputs("llava", ((3, 4, 5, 6),)), "pixel_values": torch.zeros(1, 3, 5, 5)}
        with pytest.raises((ValueError, RuntimeError)):
            logits(model, broken)
        assert torch.equal(logits(model, batch), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks the model by an old name
def test_a_peft_model_is_patched_through_its_wrapper() -> None:
    peft = pytest.importorskip("peft")
    model, batch = build("llava"), inputs("llava")
    with VHR().attach(model):
        expected: Tensor = logits(model, batch)
        tokens = answer(model, batch)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(target_modules=["o_proj", "q_proj"])).eval()
    with VHR().attach(wrapped):
        torch.testing.assert_close(logits(wrapped, batch), expected)
        assert answer(wrapped, batch) == tokens


def test_a_picture_after_the_first_pass_is_refused() -> None:
    from transformers import DynamicCache

    model, batch, cache = tiny("llava"), inputs("llava"), DynamicCache()
    with PAI(first_layer=0).attach(model), torch.no_grad():
        model(input_ids=torch.tensor([[1, 9]]), **cache_argument(model, cache))
        rest = {"input_ids": batch["input_ids"][:, 2:], "pixel_values": batch["pixel_values"]}
        with pytest.raises(BadInput, match="read the prompt in one pass"):
            model(**rest, **cache_argument(model, cache))
