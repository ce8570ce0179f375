"""Calls to an OpenAI-compatible server: what is sent, what is read, and what happens when it misbehaves."""

import base64
import json
import logging
import random
import threading
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from misbehaving_server import Log, serving

from vlmtools.errors import BadInput, ServerError
from vlmtools.responders._http import retry_after
from vlmtools.responders._keys import Keys
from vlmtools.responders.server import Server
from vlmtools.types import Decoding, Reply, Request, Responder, Sample

SECRET = "sk-secret-0123456789-abcdef"

NULL = '{"choices": [{"message": {"content": null}, "finish_reason": "%s"}]}'


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VLMTOOLS_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)


def requests(n: int, **fields: Any) -> list[Request]:
    return [Request(Sample(f"item{i}", f"question {i}"), **fields) for i in range(n)]


def server(log: Log, **options: Any) -> Server:
    return Server("m", log.url, **{"backoff_s": 0.005, "timeout_s": 5.0} | options)


def ask(log: Log, asked: Sequence[Request], **options: Any) -> dict[str, Reply]:
    return {request.sample.id: reply for request, reply in server(log, **options).answer(asked)}


def right(replies: dict[str, Reply], n: int) -> bool:
    return {key: reply.text for key, reply in replies.items()} == {
        f"item{i}": f"echo question {i}" for i in range(n)
    }


def test_it_is_a_responder() -> None:
    assert isinstance(Server("m", "http://localhost:8000"), Responder)


def test_every_question_gets_its_own_answer_with_its_token_counts() -> None:
    with serving() as log:
        replies = ask(log, requests(20))
    assert right(replies, 20)
    assert replies["item3"] == Reply("echo question 3", n_prompt_tokens=7, n_new_tokens=3)


def test_what_is_asked_is_what_is_sent() -> None:
    decoding = Decoding(temperature=0.7, top_p=0.9, max_new_tokens=33, seed=5)
    with serving() as log:
        ask(log, [Request(Sample("a", "why?", text="A passage."), decoding, draw=2)])
    assert log.paths == ["/v1/chat/completions"]
    assert log.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "A passage.\n\nwhy?"}],
            "max_tokens": 33,
            "temperature": 0.7,
            "top_p": 0.9,
            "seed": 500_017,
        }
    ]


def test_a_picture_travels_as_it_is(tmp_path: Path) -> None:
    path = tiny_models.picture(tmp_path)
    with serving() as log:
        replies = ask(log, [Request(Sample("a", "what?", image=str(path)))])
    image, text = log.bodies[0]["messages"][0]["content"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == path.read_bytes()
    assert text == {"type": "text", "text": "what?"}
    assert replies["a"].modality == ("image",)


def test_a_hidden_picture_is_not_sent(tmp_path: Path) -> None:
    sample = Sample("a", "what?", image=str(tiny_models.picture(tmp_path)))
    with serving() as log:
        replies = ask(log, [Request(sample, show_media=False)])
    assert log.bodies[0]["messages"][0]["content"] == "what?"
    assert replies["a"].modality == ()


def test_a_broken_picture_costs_its_own_answer_and_no_call(tmp_path: Path) -> None:
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(b"\x89PNG nothing")
    bad = [Request(Sample("b", "q", image=str(broken))), Request(Sample("c", "q", image=str(missing)))]
    video = Request(Sample("v", "q", video="clip.mp4"))
    with serving() as log:
        replies = ask(log, [*requests(2), *bad, video])
    assert right({key: replies.pop(key) for key in ("item0", "item1")}, 2)
    assert "broken.png" in str(replies["b"].error)
    assert "missing.png" in str(replies["c"].error)
    assert "video" in str(replies["v"].error)
    assert len(log.bodies) == 2


def test_first_token_probabilities_are_read_and_equal_tokens_added() -> None:
    with serving() as log:
        first = ask(log, requests(1, first_token=True))["item0"].first_token
    assert first is not None
    assert first == pytest.approx({"Yes": 0.778801 + 0.006738, "No": 0.135335}, abs=1e-5)
    assert (log.bodies[0]["logprobs"], log.bodies[0]["top_logprobs"]) == (True, 20)


def test_a_server_that_ignores_logprobs_gives_no_probabilities() -> None:
    body = '{"choices": [{"message": {"content": "fine"}, "finish_reason": "stop", "logprobs": null}]}'
    with serving(lambda _n, _b: f"raw:{body}") as log:
        reply = ask(log, requests(1, first_token=True))["item0"]
    assert (reply.text, reply.first_token, reply.n_new_tokens) == ("fine", None, None)


@pytest.mark.parametrize(
    ("field", "says"),
    [("logprobs", "logprobs are not supported"), ("seed", "Unknown parameter: seed"),
     ("max_tokens", "Unsupported parameter: use 'max_completion_tokens' instead")],
)  # fmt: skip
def test_a_field_the_server_does_not_take_is_left_out_for_good(field: str, says: str) -> None:
    with serving(lambda _n, body: f"400:{says}" if field in body else None) as log:
        replies = ask(log, requests(6, first_token=True), concurrency=1)
    assert right(replies, 6)
    assert [field in body for body in log.bodies] == [True] + [False] * 6


def test_the_length_limit_is_reported() -> None:
    with serving() as log:
        replies = ask(log, requests(1, decoding=Decoding(max_new_tokens=1)))
    assert replies["item0"].truncated


PASSING = ["429", "500", "502", "503", "504", "wait:0", "truncated", "mid-body", "reset", "no-answer", "garbage",
           "html", "raw:", "raw:[]", 'raw:{"choices": []}', "raw:" + NULL % "stop",
           'raw:{"error": {"message": "overloaded", "code": 503}}', "hang", "drip"]  # fmt: skip


@pytest.mark.parametrize("trouble", PASSING)
def test_a_passing_failure_costs_no_answer(trouble: str) -> None:
    with serving(lambda n, _b: trouble if n < 2 else None) as log:
        replies = ask(log, requests(3), timeout_s=0.3, concurrency=2)
    assert right(replies, 3)
    assert len(log.bodies) == 5


@pytest.mark.parametrize("trouble", PASSING)
def test_a_failure_that_stays_is_an_error_of_the_item_alone(trouble: str) -> None:
    with serving(lambda _n, body: trouble if "question 1" in json.dumps(body) else None) as log:
        replies = ask(log, requests(3), timeout_s=0.2, retries=1)
    assert replies["item1"].text is None
    assert "2 tries" in str(replies.pop("item1").error)
    assert right(replies | {"item1": Reply("echo question 1")}, 3)


def test_a_server_that_fails_a_third_of_its_calls_costs_no_answer() -> None:
    dice = random.Random(0)
    quick = [trouble for trouble in PASSING if trouble not in ("hang", "drip")]
    with serving(lambda _n, _b: dice.choice(quick) if dice.random() < 1 / 3 else None) as log:
        replies = ask(log, requests(150), concurrency=8, backoff_s=0.001)
    assert right(replies, 150)
    assert len(log.bodies) > 180


def test_a_dripping_answer_is_cut_at_the_time_limit() -> None:
    started = time.monotonic()
    with serving(lambda _n, _b: "drip") as log:
        reply = ask(log, requests(1), timeout_s=0.3, retries=0)["item0"]
    assert "time limit" in str(reply.error)
    assert 0.25 < time.monotonic() - started < 2


def test_the_pause_the_server_asks_for_is_kept() -> None:
    with serving(lambda n, _b: "wait:0.4" if n == 0 else None) as log:
        replies = ask(log, requests(1))
    assert right(replies, 1)
    assert log.times[1] - log.times[0] >= 0.4


def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    with serving(lambda _n, _b: "wait:86400") as log:
        reply = ask(log, requests(1))["item0"]
    assert "86400 s" in str(reply.error)
    assert len(log.bodies) == 1


def test_pauses_grow_and_differ() -> None:
    pauses = [Server("m", "http://localhost", backoff_s=1.0, max_wait_s=20.0)._pause(n) for n in range(8)]
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses[:4]))
    assert max(pauses) <= 20
    assert len(set(pauses)) == 8


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("1.5") == 1.5
    assert 55 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert [retry_after(odd) for odd in ("", "soon", "-3", formatdate(0, usegmt=True))] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("trouble", "hint"),
    [
        ("401:bad key", "VLMTOOLS_API_KEY"),
        ("403:not yours", "VLMTOOLS_API_KEY"),
        ("404:no such model", "/v1"),
    ],
)
def test_a_wrong_setup_stops_at_once_and_says_what_to_set(trouble: str, hint: str) -> None:
    with serving(lambda _n, _b: trouble) as log, pytest.raises(ServerError, match=hint) as caught:
        ask(log, requests(50), concurrency=2)
    assert trouble.partition(":")[2] in str(caught.value)
    assert len(log.bodies) < 10


def test_a_refusal_after_the_first_answers_is_an_error_of_the_item() -> None:
    with serving(lambda n, _b: "403:moderated" if n == 1 else None) as log:
        replies = ask(log, requests(3), concurrency=1)
    assert "moderated" in str(replies["item1"].error)
    assert len(log.bodies) == 3


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_request_the_server_refuses_is_not_repeated(status: str) -> None:
    with serving(lambda n, _b: f"{status}:too odd" if n == 0 else None) as log:
        replies = ask(log, requests(2), concurrency=1)
    assert f"HTTP {status}: too odd" in str(replies["item0"].error)
    assert len(log.bodies) == 2


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_without_content_for_a_reason_is_not_repeated(reason: str) -> None:
    with serving(lambda _n, _b: "raw:" + NULL % reason) as log:
        reply = ask(log, requests(1))["item0"]
    assert reason in str(reply.error)
    assert len(log.bodies) == 1


def test_a_refusal_in_words_and_content_in_parts_are_answers() -> None:
    refusal = '{"choices": [{"message": {"content": null, "refusal": "I cannot."}, "finish_reason": "stop"}]}'
    parts = '{"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]}'
    with serving(lambda n, _b: f"raw:{(refusal, parts)[n]}") as log:
        replies = ask(log, requests(2), concurrency=1)
    assert [replies[key].text for key in ("item0", "item1")] == ["I cannot.", "ab"]


def test_the_content_type_does_not_matter_when_the_content_is_right() -> None:
    with serving(lambda _n, _b: "plain-type") as log:
        assert right(ask(log, requests(2)), 2)


def test_nobody_at_the_address_is_said_soon() -> None:
    with serving() as log:
        address = log.url
    with pytest.raises(ServerError, match="running"):
        list(Server("m", address, backoff_s=0.001).answer(requests(5)))


def test_calls_run_together_up_to_the_limit() -> None:
    with serving(delay_s=0.05) as log:
        ask(log, requests(24), concurrency=6)
    assert log.peak == 6


def test_answers_come_as_they_arrive_and_stopping_ends_what_runs() -> None:
    with serving(lambda n, _b: "hang" if n > 0 else None) as log:
        stream = server(log, concurrency=4, timeout_s=20).answer(requests(40))
        started = time.monotonic()
        assert next(iter(stream))[1].text is not None
        stream.close()  # type: ignore[attr-defined]
        while log.in_flight > 3 and time.monotonic() - started < 5:
            time.sleep(0.01)
        assert time.monotonic() - started < 3
        assert len(log.bodies) <= 8


def test_ending_one_stream_leaves_another_alone() -> None:
    with serving(delay_s=0.1) as log:
        asked = server(log, concurrency=2)
        stream, other = asked.answer(requests(6)), asked.answer(requests(6))
        replies = [next(stream)]
        next(other)
        other.close()  # type: ignore[attr-defined]
        assert right({request.sample.id: reply for request, reply in [*replies, *stream]}, 6)


def test_closing_ends_the_calls_that_wait() -> None:
    with serving(lambda _n, _b: "hang") as log:
        asked = server(log, timeout_s=20)
        threading.Timer(0.2, asked.close).start()
        started = time.monotonic()
        replies = [reply for _, reply in asked.answer(requests(2))]
        assert time.monotonic() - started < 5
    assert all(reply.error for reply in replies)


def test_the_key_is_sent_and_found_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("VLMTOOLS_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    troubles = [f"500:key {SECRET} broke", f"400:seed refused for {SECRET}", f"400:{SECRET} is odd", None]
    with serving(lambda n, _b: troubles[min(n, 3)]) as log:
        asked = server(log, concurrency=1)
        replies = [reply for _, reply in asked.answer(requests(3))]
    assert {headers["Authorization"] for headers in log.headers} == {f"Bearer {SECRET}"}
    seen = [caplog.text, repr(asked), json.dumps(asked.identity()), repr(vars(asked)), repr(replies)]
    assert len([reply for reply in replies if reply.error]) == 1
    assert not [text for text in seen if SECRET in text]
    with serving(lambda _n, _b: f"401:{SECRET} is wrong") as log, pytest.raises(ServerError) as caught:
        ask(log, requests(1))
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not [error for error in chain if error is not None and SECRET in f"{error!s}{error!r}"]
    assert "[key] is wrong" in str(caught.value)


def test_a_key_with_a_line_break_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMTOOLS_API_KEY", "sk-a\nX-Evil: 1")
    with serving() as log, pytest.raises(ServerError, match="VLMTOOLS_API_KEY") as caught:
        ask(log, requests(1))
    assert "sk-a" not in str(caught.value)
    assert not log.bodies


def test_other_keys_go_only_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with serving() as log:
        ask(log, requests(1))
        assert "Authorization" not in log.headers[0]
        ask(log, requests(1), key_env="OPENAI_API_KEY")
        assert log.headers[1]["Authorization"] == f"Bearer {SECRET}"
    hosts = [
        "api.openai.com",
        "openai.com.evil.org",
        "evilopenai.com",
        "router.huggingface.co",
        "a.b.huggingface.cloud",
    ]
    found = [Keys().variable(f"https://{host}/v1") for host in hosts]
    assert found == ["OPENAI_API_KEY", "", "", "HF_TOKEN", "HF_TOKEN"]


def test_a_redirect_is_not_followed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMTOOLS_API_KEY", SECRET)
    with serving() as elsewhere, serving(lambda _n, _b: f"redirect:{elsewhere.url}/chat/completions") as log:
        reply = ask(log, requests(1))["item0"]
    assert "307" in str(reply.error)
    assert not elsewhere.bodies


def test_a_huggingface_offline_setting_does_not_forbid_the_own_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with serving() as log:
        assert right(ask(log, requests(1)), 1)


@pytest.mark.parametrize(
    ("spec", "model", "endpoint"),
    [
        ("server:m@http://h:8000", "m", "http://h:8000/v1/chat/completions"),
        ("server:org/m@v2@https://h/v1/", "org/m@v2", "https://h/v1/chat/completions"),
        ("m@http://h/api/chat/completions?version=3", "m", "http://h/api/chat/completions?version=3"),
    ],
)
def test_a_server_is_written_model_at_address(spec: str, model: str, endpoint: str) -> None:
    parsed = Server.parse(spec, concurrency=3)
    assert (parsed.model, parsed.endpoint, parsed.name, parsed.concurrency) == (model, endpoint, model, 3)
    assert parsed.identity() == {"kind": "server", "model": model, "url": endpoint.partition("?")[0]}


@pytest.mark.parametrize(
    "spec", ["server:m", "server:@http://h", "m@ftp://h", "m@http://:80", "m@http://h:port/v1"]
)
def test_an_address_that_cannot_work_is_refused(spec: str) -> None:
    with pytest.raises(BadInput, match="http://localhost:8000"):
        Server.parse(spec)


def test_a_password_in_the_address_is_refused_unseen() -> None:
    with pytest.raises(BadInput, match="VLMTOOLS_API_KEY") as caught:
        Server.parse(f"m@https://user:{SECRET}@host/v1")
    assert SECRET not in str(caught.value)
