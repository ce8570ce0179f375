"""A local model with patches on it, with beams, and one that shows its answer while writing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from matrix import hooks, kernels

from vlmtools.errors import BadInput, CannotAttach
from vlmtools.families._streamer import Streamer
from vlmtools.patches.pai import PAI
from vlmtools.patches.paint import PAINT
from vlmtools.patches.vhr import VHR
from vlmtools.responders.hf import HF
from vlmtools.store import call_key
from vlmtools.types import Decoding, Reply, Request, Sample
from vlmtools.vlm import VLM, load

NEAR = PAI(first_layer=0, contrast=1.1)
"""Reaches the two layers of the tiny model."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture
def asked(tmp_path: Path) -> list[Request]:
    pictures = [str(tiny_models.picture(tmp_path, i)) for i in range(3)]
    prompts = ("What is this?", "Is there a dog near the window?", "Why?")
    return [
        Request(Sample(f"x{i}", prompts[i], image=pictures[i]), Decoding(max_new_tokens=12)) for i in range(3)
    ]


def said(responder: HF, requests: list[Request]) -> list[str | None]:
    replies = {request.sample.id: reply.text for request, reply in responder.answer(requests)}
    return [replies[request.sample.id] for request in requests]


def test_a_patched_responder_answers_as_the_patched_model(folder: Path, asked: list[Request]) -> None:
    strong = VHR(strength=4.0)
    vlm = load(folder)
    plain = [reply.text for reply in vlm.generate(asked)]
    with strong.attach(vlm):
        expected = [reply.text for reply in vlm.generate(asked)]
    assert expected != plain
    responder = HF(str(folder), patches=[strong])
    assert said(responder, asked) == expected
    responder.close()
    assert said(HF(str(folder)), asked) == plain


def test_closing_takes_every_patch_off_again(folder: Path, asked: list[Request]) -> None:
    responder = HF(str(folder), patches=[PAI(strength=0.5, first_layer=0), VHR()])
    model = responder.load().model
    plain = HF(str(folder))
    clean = plain.load().model
    # transformers hangs hooks of its own on the tower when it is first used
    said(plain, asked)
    said(responder, asked)
    assert hooks(model) != hooks(clean)
    responder.close()
    assert hooks(model) == hooks(clean)
    assert kernels(model) == kernels(clean)
    responder.close()


def test_a_patch_that_does_not_fit_leaves_no_other_patch_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vlm = load(folder)
    before = hooks(vlm.model), kernels(vlm.model)

    def refuse(*_: Any) -> Iterator[Any]:
        raise CannotAttach("no")

    monkeypatch.setattr(PAINT, "hooks", refuse)
    monkeypatch.setattr("vlmtools.responders.hf.load", lambda *_a, **_k: vlm)
    responder = HF(str(folder), patches=[VHR(), NEAR, PAINT()])
    with pytest.raises(CannotAttach):
        responder.load()
    assert (hooks(vlm.model), kernels(vlm.model)) == before


def test_a_patch_without_a_layer_to_act_on_says_so(folder: Path) -> None:
    with pytest.raises(
        CannotAttach, match="pai is set to layers this model does not have: its decoder has 2"
    ):
        HF(str(folder), patches=[PAI(first_layer=2)]).load()


def test_the_key_of_an_answer_knows_every_setting_of_every_patch(folder: Path) -> None:
    patchings: list[list[Any]] = [
        [],
        [VHR()],
        [VHR(strength=3.0)],
        [VHR(heads={2: (0, 1)})],
        [VHR(heads={2: (0,)})],
        [VHR(outlier_filter=False)],
        [VHR(), PAI()],
        [PAI(), VHR()],
    ]
    keys = [call_key("answer", dict(HF(str(folder), patches=one).identity())) for one in patchings]
    keys.append(call_key("answer", dict(HF(str(folder), num_beams=2).identity())))
    assert len(set(keys)) == len(keys)
    (table,) = HF(str(folder), patches=[VHR(strength=3.0)]).identity()["patches"]
    assert table["name"] == "vhr" and table["strength"] == 3.0 and table["counterfactual"] == "drop"


def test_answers_stored_before_there_were_patches_keep_their_keys(folder: Path) -> None:
    assert not {"patches", "patching", "num_beams"} & set(HF(str(folder)).identity())


def test_names_tell_patched_models_apart(folder: Path) -> None:
    names = [
        HF(str(folder), patches=one).name
        for one in ([], [VHR()], [VHR(strength=3.0), PAI()], [VHR(heads={1: (0,)})])
    ]
    assert names == ["llava", "llava+vhr", "llava+vhr:strength=3+pai", "llava+vhr:heads=1 given"]
    assert HF(str(folder), num_beams=3).name == "llava-3beams"
    assert HF(str(folder), patches=[VHR()], name="mine").name == "mine"


def test_a_function_as_setting_is_refused_because_no_key_could_hold_it(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"vhr: counterfactual is a function"):
        HF(str(folder), patches=[VHR(counterfactual=lambda inputs: inputs)])


@pytest.mark.parametrize("patches", [[], [VHR(), NEAR]], ids=["plain", "patched"])
def test_beams_of_a_batch_are_those_of_single_questions(
    patches: list[Any], folder: Path, asked: list[Request]
) -> None:
    responder = HF(str(folder), patches=patches, num_beams=3)
    together = said(responder, asked)
    assert together == [said(responder, [request])[0] for request in asked]
    vlm = responder.load()
    inputs = vlm.inputs([vlm.chat("What is this?", True)], [_opened(asked[0])])
    out = vlm.model.generate(**inputs, num_beams=3, do_sample=False, max_new_tokens=12)
    new = out[0, inputs["input_ids"].shape[1] :]
    assert together[0] == vlm.tokenizer.decode(new, skip_special_tokens=True).strip()
    responder.close()


def test_beams_and_temperature_exclude_each_other(folder: Path, asked: list[Request]) -> None:
    with pytest.raises(BadInput, match="0 beams"):
        HF(str(folder), num_beams=0)
    vlm = load(folder)
    vlm.num_beams = 2
    reply = vlm.generate([Request(asked[0].sample, Decoding(1.0))])[0]
    assert reply.text is None and "2 beams" in str(reply.error)


def test_the_first_token_of_beams_belongs_to_its_own_row(folder: Path, asked: list[Request]) -> None:
    vlm = load(folder)
    wants = [Request(one.sample, one.decoding, first_token=True) for one in asked]
    single = [reply.first_token for reply in vlm.generate(wants)]
    vlm.num_beams = 3
    for one, other in zip(single, (reply.first_token for reply in vlm.generate(wants)), strict=True):
        assert one is not None and other is not None
        assert other == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=20), Decoding(1.0, 0.9, 30, seed=4)])
def test_the_pieces_of_a_streamed_answer_are_the_answer(
    num_beams: int, decoding: Decoding, folder: Path, asked: list[Request]
) -> None:
    vlm = load(folder)
    vlm.num_beams = num_beams
    request = Request(asked[1].sample, decoding)
    pieces: list[str] = []
    reply = vlm.stream(request, pieces.append)
    assert reply == vlm.generate([request])[0]
    assert "".join(pieces) == (reply.text or "")
    if num_beams == 1:
        assert len(pieces) > 1 and all(pieces)


def test_a_patched_model_streams_its_patched_answer(folder: Path, asked: list[Request]) -> None:
    responder = HF(str(folder), patches=[VHR(strength=4.0), NEAR])
    pieces: list[str] = []
    reply = responder.load().stream(asked[0], pieces.append)
    assert "".join(pieces) == reply.text == said(responder, asked[:1])[0]
    responder.close()


def test_a_question_that_cannot_be_asked_shows_nothing(folder: Path) -> None:
    pieces: list[str] = []
    reply = load(folder).stream(Request(Sample("a", "?", image="gone.png")), pieces.append)
    assert reply.text is None and "gone.png" in str(reply.error) and not pieces


def test_a_failing_model_is_an_error_and_no_crash(folder: Path, asked: list[Request]) -> None:
    vlm: VLM = load(folder)

    def full(**_inputs: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    vlm.model.generate = full
    reply: Reply = vlm.stream(asked[0], lambda _: None)
    assert reply.text is None and "out of memory" in str(reply.error)


def test_half_a_character_and_white_space_wait_for_what_follows() -> None:
    texts = {1: "  A", 2: "  A \ufffd", 3: "  A é", 4: "  A é ", 5: "  A é \n", 6: "  A é \n b  "}
    pieces: list[str] = []
    streamer = Streamer(lambda ids: texts[len(ids)], pieces.append)
    streamer.put(torch.zeros(1, 7))
    for token in range(6):
        streamer.put(torch.tensor([token]))
    streamer.end()
    assert pieces == ["A", " é", " \n b"]


def test_a_character_that_stays_broken_is_shown_at_the_end() -> None:
    pieces: list[str] = []
    streamer = Streamer(lambda ids: "A" + "\ufffd" * (len(ids) - 1), pieces.append)
    for _ in range(4):
        streamer.put(torch.tensor([1]))
    assert pieces == ["A"]
    streamer.end()
    assert pieces == ["A", "\ufffd\ufffd"]


def _opened(request: Request) -> Any:
    from PIL import Image

    return Image.open(str(request.sample.image)).convert("RGB")
