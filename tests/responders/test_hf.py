"""Local models: tiny random ones, saved to disk and loaded as a hub model would be, with the network cut."""

import dataclasses
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from vlmtools.decoding import gumbel, row_key, warp
from vlmtools.errors import BadInput, ResponderError
from vlmtools.families._templates import write_chat
from vlmtools.fingerprint import folder_digest, revision_of
from vlmtools.responders.hf import HF
from vlmtools.types import Decoding, Reply, Request, Responder, Sample
from vlmtools.vlm import VLM, load

BUILD: dict[str, Callable[[Path], Path]] = {
    "llava": tiny_models.llava,
    "qwen2_5_vl": tiny_models.qwen2_5_vl,
    "idefics3": tiny_models.idefics3,
    "smolvlm": lambda folder: tiny_models.idefics3(folder, processor_class="SmolVLMProcessor"),
    "causal_lm": tiny_models.causal_lm,
}
SEEING = [name for name in BUILD if name != "causal_lm"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise AssertionError("a local model reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny matrices: more threads only wait for each other
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")
    return lambda name: root / name if (root / name).exists() else BUILD[name](root / name)


@pytest.fixture(scope="session")
def loaded(saved: Callable[[str], Path]) -> Callable[[str], VLM]:
    models: dict[str, VLM] = {}
    return lambda name: models.setdefault(name, load(saved(name), local_files_only=True))


@pytest.fixture
def asked(tmp_path: Path) -> list[Request]:
    prompts = [
        "What is this?",
        "Is there a dog near the window, and what does it do?",
        "Colour?",
        "a " * 30,
        "Why?",
    ]
    decodings = [
        Decoding(max_new_tokens=10),
        Decoding(1.0, 1.0, 14, seed=3),
        Decoding(0.7, 0.8, 10),
        Decoding(1.0),
    ]
    pictures = [tiny_models.picture(tmp_path, i, size=(30 + 15 * i, 44)) for i in range(5)]
    return [
        Request(Sample(f"x{i}", prompts[i], image=str(pictures[i])), decodings[i % 3], first_token=i == 1)
        for i in range(5)
    ]


def texts(replies: Sequence[Reply]) -> list[str | None]:
    return [reply.text for reply in replies]


def blind(requests: Sequence[Request]) -> list[Request]:
    return [
        Request(Sample(r.sample.id, r.sample.prompt), r.decoding, r.draw, r.first_token) for r in requests
    ]


@pytest.mark.parametrize("name", BUILD)
def test_a_batch_answers_as_one_by_one(name: str, loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    requests = asked if name in SEEING else blind(asked)
    vlm = loaded(name)
    together, alone = vlm.generate(requests), [vlm.generate([request])[0] for request in requests]
    assert texts(together) == texts(alone)
    assert texts(together) == texts(list(reversed(vlm.generate(list(reversed(requests))))))
    assert all(reply.error is None and reply.text for reply in together)
    assert [reply.n_prompt_tokens for reply in together] == [reply.n_prompt_tokens for reply in alone]
    assert all(reply.modality == (("image",) if name in SEEING else ()) for reply in together)


@pytest.mark.parametrize("name", SEEING)
def test_the_picture_changes_the_probabilities(
    name: str, loaded: Callable[[str], VLM], tmp_path: Path
) -> None:
    pictures = [str(tiny_models.picture(tmp_path, seed)) for seed in (1, 2)]
    requests = [Request(Sample("a", "What?", image=path), first_token=True) for path in pictures]
    one, two = (reply.first_token for reply in loaded(name).generate(requests))
    assert one and two and one != two


@pytest.mark.parametrize("name", SEEING)
def test_with_and_without_pictures_in_one_batch(
    name: str, loaded: Callable[[str], VLM], asked: list[Request]
) -> None:
    hidden = [Request(r.sample, r.decoding, show_media=False) for r in asked[:2]]
    mixed = [asked[0], hidden[0], asked[1], hidden[1]]
    replies = loaded(name).generate(mixed)
    assert texts(replies) == texts([loaded(name).generate([request])[0] for request in mixed])
    assert [reply.modality for reply in replies] == [("image",), (), ("image",), ()]


def test_greedy_is_what_generate_itself_gives(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    vlm, request = loaded("llava"), asked[0]
    image = Image.open(str(request.sample.image)).convert("RGB")
    inputs = vlm.processor(text=vlm.chat(request.sample.prompt, True), images=image, return_tensors="pt")
    plain = vlm.model.generate(**inputs, do_sample=False, max_new_tokens=10)[
        0, inputs["input_ids"].shape[1] :
    ]
    assert vlm.generate([request])[0].text == vlm.tokenizer.decode(plain, skip_special_tokens=True).strip()


def test_draws_differ_and_repeat(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    draws = [Request(asked[0].sample, Decoding(1.0, 1.0, 12), draw=k) for k in range(1, 6)]
    first = texts(loaded("llava").generate(draws))
    assert len(set(first)) == 5
    torch.manual_seed(99)
    assert texts(loaded("llava").generate(draws[2:])) == first[2:]
    other = [Request(r.sample, Decoding(1.0, 1.0, 12, seed=1), draw=r.draw) for r in draws]
    assert not set(texts(loaded("llava").generate(other))) & set(first)


def test_every_request_keeps_its_own_length_limit(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    limits = [1, 9, 4]
    requests = [Request(asked[0].sample, Decoding(max_new_tokens=n)) for n in limits]
    replies = loaded("llava").generate(requests)
    assert [reply.n_new_tokens for reply in replies] == limits
    assert all(reply.truncated for reply in replies)
    assert str(replies[1].text).startswith(str(replies[2].text).rstrip("�"))


def test_an_answer_that_ends_by_itself_is_not_truncated(
    loaded: Callable[[str], VLM], asked: list[Request]
) -> None:
    vlm = loaded("llava")
    first = vlm.generate([Request(asked[0].sample, Decoding(max_new_tokens=3))])[0]
    ids = vlm.tokenizer.encode(str(first.text), add_special_tokens=False)
    before = vlm.model.generation_config.eos_token_id
    vlm.model.generation_config.eos_token_id = [before, *ids]
    try:
        reply = vlm.generate([Request(asked[0].sample, Decoding(max_new_tokens=30))])[0]
    finally:
        vlm.model.generation_config.eos_token_id = before
    assert not reply.truncated
    assert (reply.n_new_tokens or 99) <= 3


def test_first_token_probabilities_are_those_of_the_model(
    loaded: Callable[[str], VLM], asked: list[Request]
) -> None:
    vlm = loaded("llava")
    replies = vlm.generate(asked)
    assert [reply.first_token is not None for reply in replies] == [False, True, False, False, False]
    image = Image.open(str(asked[1].sample.image)).convert("RGB")
    with torch.no_grad():
        logits = vlm.model(**vlm.inputs([vlm.chat(asked[1].sample.prompt, True)], [image])).logits[0, -1]
    best = logits.softmax(-1).topk(20)
    first = replies[1].first_token or {}
    assert sum(first.values()) == pytest.approx(float(best.values.sum()), rel=1e-4)
    assert sum(first.values()) <= 1
    assert all(vlm.tokenizer.decode([token]) in first for token in best.indices.tolist())


@pytest.mark.parametrize("quant", ["4bit", "8bit"])
@pytest.mark.parametrize("name", ["llava", "causal_lm"])
def test_quantised_models_load_and_answer(
    name: str, quant: str, saved: Callable[[str], Path], asked: list[Request]
) -> None:
    requests = (asked if name == "llava" else blind(asked))[:2]
    responder = HF(str(saved(name)), quant=quant, offline=True)
    replies = [reply for _, reply in responder.answer(requests)]
    kinds = {type(module).__name__ for module in responder.load().model.modules()}
    assert {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[quant] in kinds
    assert all(reply.error is None and reply.text is not None for reply in replies)
    assert responder.identity()["quant"] == quant
    responder.close()


def test_a_broken_picture_costs_its_own_answer_only(
    saved: Callable[[str], Path], asked: list[Request]
) -> None:
    folder = saved("llava").parent
    (folder / "torn.png").write_bytes(Path(str(asked[0].sample.image)).read_bytes()[:80])
    bad = [
        Request(Sample("torn", "?", image=str(folder / "torn.png"))),
        Request(Sample("gone", "?", image=str(folder / "gone.png"))),
        Request(Sample("far", "?", image="https://example.org/a.png")),
        Request(Sample("film", "?", video="a.mp4")),
        Request(Sample("token", "what is <image> here?", image=asked[0].sample.image)),
    ]
    responder = HF(str(saved("llava")), batch_size=4)
    replies = {request.sample.id: reply for request, reply in responder.answer([*bad, *asked])}
    for key, word in {
        "torn": "picture",
        "gone": "gone.png",
        "far": "allow_urls",
        "film": "video",
        "token": "",
    }.items():
        assert replies[key].text is None
        assert word in str(replies[key].error)
    assert all(replies[request.sample.id].text for request in asked)
    responder.close()


def test_a_text_model_says_that_it_does_not_see(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    reply = loaded("causal_lm").generate(asked[:1])[0]
    assert "text only" in str(reply.error)


def test_the_passage_of_an_item_is_read(loaded: Callable[[str], VLM]) -> None:
    vlm = loaded("causal_lm")
    with_passage, without = (
        vlm.generate([Request(Sample("a", "What?", text="The dog sat near the window."), show_media=shown)])[
            0
        ]
        for shown in (True, False)
    )
    assert (with_passage.n_prompt_tokens or 0) > (without.n_prompt_tokens or 0)
    assert (with_passage.modality, without.modality) == (("text",), ())


def test_an_identity_is_known_without_loading(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmtools.responders.hf.load", lambda *_a, **_k: pytest.fail("loaded"))
    responder = HF(str(saved("llava")), quant="4bit")
    identity = responder.identity()
    assert isinstance(responder, Responder)
    assert (identity["kind"], identity["model"], identity["quant"]) == ("hf", "llava", "4bit")
    assert str(identity["revision"]).startswith("sha256:")
    assert str(saved("llava").parent) not in str(identity)
    assert responder.name == "llava-4bit"


def test_the_same_folder_elsewhere_is_the_same_model(saved: Callable[[str], Path], tmp_path: Path) -> None:
    copy = shutil.copytree(saved("llava"), tmp_path / "llava")
    assert HF(str(copy)).identity() == HF(str(saved("llava"))).identity()


@pytest.mark.parametrize("small", [2**26, 0])
def test_other_weights_of_equal_shape_are_another_model(
    small: int, saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmtools.fingerprint.SMALL_BYTES", small)
    other = tiny_models.llava(tmp_path / "llava", seed=1)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (saved("llava"), other)]
    assert sizes[0] == sizes[1]
    assert folder_digest(saved("llava")) != folder_digest(other)
    template = other / "chat_template.jinja"
    before = folder_digest(other)
    template.write_text(template.read_text().replace("ASSISTANT", "assistant"))
    assert folder_digest(other) != before


def test_a_hub_model_is_known_by_its_cached_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--org--tiny"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "config.json").write_text("{}")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    assert revision_of("org/tiny", offline=True) == commit
    assert revision_of("org/absent", "f" * 40, offline=True) == "f" * 40
    with pytest.raises(BadInput, match="hf download org/absent"):
        revision_of("org/absent", offline=True)
    with pytest.raises(BadInput, match="neither a folder"):
        revision_of("no/such/folder", offline=True)


def test_a_batch_that_does_not_fit_is_halved(saved: Callable[[str], Path], asked: list[Request]) -> None:
    responder = HF(str(saved("llava")), batch_size=5)
    expected = {request.sample.id: reply.text for request, reply in responder.answer(asked)}
    vlm, sizes = responder.load(), list[int]()
    generate = vlm.model.generate

    def small(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    vlm.model.generate = small
    requests = [*asked, *(Request(Sample(f"y{i}", "?", image=asked[0].sample.image)) for i in range(4))]
    replies = {request.sample.id: reply.text for request, reply in responder.answer(requests)}
    assert {key: replies[key] for key in expected} == expected
    assert all(replies.values())
    assert [size for size in sizes if size > 2] == [5, 3]
    assert vlm.largest_batch == 2
    responder.close()


def test_one_item_that_never_fits_is_an_error(saved: Callable[[str], Path], asked: list[Request]) -> None:
    vlm = load(saved("llava"))

    def full(**_inputs: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    vlm.model.generate = full
    assert [reply.error and "out of memory" in reply.error for reply in vlm.generate(asked[:2])] == [
        True,
        True,
    ]


def test_closing_frees_the_model_and_asking_again_loads_it(
    saved: Callable[[str], Path], asked: list[Request]
) -> None:
    responder = HF(str(saved("llava")))
    first = {r.sample.id: reply.text for r, reply in responder.answer(asked)}
    responder.close()
    responder.close()
    assert {r.sample.id: reply.text for r, reply in responder.answer(asked)} == first
    assert list(responder.answer([])) == []


def test_an_opened_model_is_wrapped_as_it_is(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    model = loaded("llava").model
    vlm = VLM.wrap(model)
    assert texts(vlm.generate(asked)) == texts(loaded("llava").generate(asked))
    assert vlm.name == "llava"
    model.train()
    try:
        assert texts(vlm.generate(asked[:1])) == texts(loaded("llava").generate(asked[:1]))
        assert model.training
    finally:
        model.eval()


def test_one_question_about_an_opened_picture(loaded: Callable[[str], VLM], asked: list[Request]) -> None:
    vlm, path = loaded("llava"), str(asked[0].sample.image)
    expected = vlm.generate([Request(Sample("a", "What?", image=path), Decoding(max_new_tokens=6))])[0].text
    assert vlm.answer(path, "What?", max_new_tokens=6) == expected
    assert vlm.answer(Image.open(path), "What?", max_new_tokens=6) == expected
    with pytest.raises(ResponderError, match="text only"):
        loaded("causal_lm").answer(path, "What?")


class Words:
    """A tokenizer of which only the template matters."""

    def __init__(self, template: str | None) -> None:
        self.chat_template, self.image_token = template, "<image>"

    def apply_chat_template(self, turns: Any, **_options: Any) -> str:
        import jinja2

        return jinja2.Template(str(self.chat_template)).render(messages=turns, add_generation_prompt=True)


class Both(Words):
    """A processor around it."""

    def __init__(self, own: str | None, inner: str | None) -> None:
        super().__init__(own)
        self.tokenizer = Words(inner)


@pytest.mark.parametrize(
    ("own", "inner", "seen", "blind"),
    [
        (tiny_models.LLAVA_TEMPLATE, None, "USER: <image>\nWhat? ASSISTANT:", "USER: What? ASSISTANT:"),
        (None, tiny_models.LLAVA_TEMPLATE, "USER: <image>\nWhat? ASSISTANT:", "USER: What? ASSISTANT:"),
        (None, tiny_models.TEXT_TEMPLATE, "user: <image>\nWhat?\nassistant:", "user: What?\nassistant:"),
        (tiny_models.TEXT_TEMPLATE, None, "<image>\nWhat?", "What?"),
        (None, None, "<image>\nWhat?", "What?"),
        (None, "{{ 'user: ' + messages[0]['content'] }}", "user: <image>\nWhat?", "user: What?"),
    ],
)
def test_a_template_that_would_lose_the_question_or_the_picture_is_not_used(
    own: str | None, inner: str | None, seen: str, blind: str
) -> None:
    processor = Both(own, inner)
    assert (write_chat(processor, "What?", True), write_chat(processor, "What?", False)) == (seen, blind)


def test_pickled_weights_are_not_loaded(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved("causal_lm"), tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"pytorch_model\.bin.*save_pretrained"):
        load(folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"quant": "3bit"}, "4bit, 8bit"), ({"dtype": "int4"}, "bfloat16"), ({"batch_size": 0}, "from 1")],
)
def test_options_that_do_not_exist_are_refused_at_once(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        HF("org/model", **options)


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="hf download"):
        load("org/absent", local_files_only=True)
    with pytest.raises(BadInput, match=r"config\.json"):
        load(tmp_path)


def test_code_of_a_checkpoint_is_not_run_unasked(saved: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved("causal_lm"), tmp_path / "coded")
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}')
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BadInput, match="trust_remote_code=True"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_noise_is_gumbel_and_belongs_to_the_row() -> None:
    keys = torch.tensor([row_key(Request(Sample(f"i{i}", "q"))) for i in range(40)])
    noise = gumbel(keys, 3, 5000)
    assert torch.equal(noise[7:9], gumbel(keys[7:9], 3, 5000))
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(1.6449, abs=0.03)
    assert not torch.equal(noise, gumbel(keys, 4, 5000))
    correlation = torch.corrcoef(torch.cat([noise, gumbel(keys, 4, 5000)]))
    assert float((correlation - torch.eye(80)).abs().max()) < 0.08


def test_draws_follow_the_softmax() -> None:
    keys = torch.tensor([row_key(Request(Sample(f"i{i}", "q"))) for i in range(20_000)])
    probability = torch.tensor([0.5, 0.3, 0.15, 0.05]).double()
    logits = probability.log().expand(len(keys), 4)
    one = torch.ones(len(keys)).double()
    drawn = (warp(logits, one, one) + gumbel(keys, 0, 4)).argmax(-1)
    assert torch.bincount(drawn, minlength=4) / len(keys) == pytest.approx(probability, abs=0.012)
    nucleus = (warp(logits, one, one * 0.7) + gumbel(keys, 0, 4)).argmax(-1)
    expected = torch.tensor([0.625, 0.375, 0, 0])
    assert torch.bincount(nucleus, minlength=4) / len(keys) == pytest.approx(expected, abs=0.012)


def test_temperature_and_nucleus_match_the_reference() -> None:
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).double() * 3
    for temperature, top_p in ((0.7, 0.9), (1.3, 0.5), (1.0, 0.05)):
        theirs = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, logits))
        rows = torch.tensor([temperature, top_p], dtype=torch.float64)[:, None].expand(2, 6)
        ours = warp(logits, *rows)
        assert torch.equal(ours, theirs)


def test_a_raw_prompt_is_read_as_it_is_also_beside_others(
    loaded: Callable[[str], VLM], asked: list[Request]
) -> None:
    vlm, plain = loaded("causal_lm"), blind(asked)[:2]
    raw = [dataclasses.replace(request, raw=True) for request in plain]
    mixed = texts(vlm.generate([plain[0], raw[0], plain[1], raw[1]]))
    assert mixed == [
        text
        for pair in zip(texts(vlm.generate(plain)), texts(vlm.generate(raw)), strict=True)
        for text in pair
    ]
    batch = vlm.inputs([raw[0].sample.prompt])
    new = vlm.model.generate(**batch, do_sample=False, max_new_tokens=raw[0].decoding.max_new_tokens)
    straight = vlm.tokenizer.decode(new[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert mixed[1] is not None and mixed[1].strip() == straight.strip()
