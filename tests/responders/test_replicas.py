"""Several servers with one model: used evenly, a dead one left out and tried again, keys sent where they belong."""

import threading
from collections.abc import Iterator

import pytest
from misbehaving_server import serving

from vlmtools.errors import BadInput, ServerError
from vlmtools.responders._replicas import Replicas, addresses
from vlmtools.responders.server import Server
from vlmtools.types import Request, Sample

CLOSED = "http://127.0.0.1:9/v1"


def requests(n: int) -> list[Request]:
    return [Request(Sample(f"{k}", f"question {k}")) for k in range(n)]


def test_calls_are_spread_evenly_over_equal_servers() -> None:
    with serving(delay_s=0.02) as one, serving(delay_s=0.02) as two:
        server = Server("m", f"{one.url},{two.url}", concurrency=2)
        said = {request.sample.id: reply.text for request, reply in server.answer(requests(60))}
    assert said == {f"{k}": f"echo question {k}" for k in range(60)}
    assert len(one.bodies) + len(two.bodies) == 60
    assert min(len(one.bodies), len(two.bodies)) >= 20
    assert max(one.peak, two.peak) <= 4


def test_a_slow_server_gets_fewer_calls() -> None:
    with serving(delay_s=0.02) as quick, serving(delay_s=0.3) as slow:
        server = Server("m", f"{slow.url},{quick.url}", concurrency=2)
        assert len(list(server.answer(requests(60)))) == 60
    assert len(quick.bodies) > 2 * len(slow.bodies)


def test_a_server_that_is_down_from_the_start_is_left_out() -> None:
    with serving() as there:
        server = Server("m", f"{CLOSED},{there.url}", concurrency=2, backoff_s=30.0)
        replies = [reply.text for _, reply in server.answer(requests(20))]
    assert None not in replies
    assert len(there.bodies) == 20


def test_a_server_that_comes_back_is_used_again() -> None:
    broken = threading.Event()
    broken.set()

    def trouble(_n: int, _body: object) -> str | None:
        return "500" if broken.is_set() else None

    with serving(trouble) as sick, serving(delay_s=0.02) as well:
        server = Server("m", f"{sick.url},{well.url}", concurrency=1, backoff_s=0.05, max_wait_s=0.2)
        assert all(reply.text for _, reply in server.answer(requests(20)))
        tried = len(sick.bodies)
        broken.clear()
        assert all(reply.text for _, reply in server.answer(requests(60)))
    assert tried < 20, "a failing server was asked as often as a sound one"
    assert len(sick.bodies) > tried + 5
    assert len(well.bodies) >= 20


def test_all_down_is_said_at_once() -> None:
    server = Server("m", f"{CLOSED},http://127.0.0.1:19/v1", backoff_s=0.01)
    with pytest.raises(ServerError, match="does not answer"):
        list(server.answer(requests(3)))


def test_answers_are_stored_under_the_first_address_only() -> None:
    one, both = Server("m", "http://a.test/v1"), Server.parse("server:m@http://a.test/v1,http://b.test:81")
    assert dict(one.identity()) == dict(both.identity())
    assert both._replicas.where == [
        "http://a.test/v1/chat/completions",
        "http://b.test:81/v1/chat/completions",
    ]


def test_a_comma_within_an_address_is_no_second_server() -> None:
    assert addresses("http://a.test/v1?tags=x,y") == ("http://a.test/v1/chat/completions?tags=x,y",)


def test_the_same_address_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="twice"):
        Server("m", "http://a.test/v1,http://a.test")


def test_a_key_goes_only_to_the_host_it_was_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLMTOOLS_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = Server("m", "https://api.openai.com/v1,https://elsewhere.test/v1")
    own, other = (server._keys.headers(where) for where in server._replicas.where)
    assert own["Authorization"] == "Bearer sk-secret"
    assert "Authorization" not in other
    assert server._scrubbed("sk-secret leaked") == "[key] leaked"


def test_requests_are_taken_from_a_generator_as_they_are_needed() -> None:
    taken = 0

    def many() -> Iterator[Request]:
        nonlocal taken
        for request in requests(500):
            taken += 1
            yield request

    with serving() as one, serving() as two:
        server = Server("m", f"{one.url},{two.url}", concurrency=2)
        answering = server.answer(many())  # type: ignore[arg-type]
        next(answering)
        assert taken <= 10
        answering.close()  # type: ignore[attr-defined]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rest_doubles_with_every_failure_and_ends_with_one_call_at_a_time() -> None:
    clock = Clock()
    replicas = Replicas(["a", "b"], rest_s=1.0, longest_s=3.0, clock=clock)
    replicas.failed("a")
    with replicas.use() as first, replicas.use() as second:
        assert (first, second) == ("b", "b")
    clock.now = 1.0
    with replicas.use() as first, replicas.use() as second:
        assert (first, second) == ("a", "b"), "a server on trial gets a single call"
    replicas.failed("a")
    clock.now = 2.9
    with replicas.use() as first:
        assert first == "b"
    clock.now = 3.0
    with replicas.use() as first:
        assert first == "a"
    replicas.answered("a")
    with replicas.use(), replicas.use(), replicas.use(), replicas.use():
        assert [one.n_open for one in replicas._replicas] == [2, 2]


def test_calls_that_fail_together_count_once() -> None:
    clock = Clock()
    replicas = Replicas(["a", "b"], rest_s=1.0, clock=clock)
    for _ in range(8):
        replicas.failed("a")
    clock.now = 1.0
    with replicas.use() as where:
        assert where == "a"


def test_when_all_rest_the_one_that_is_ready_first_is_asked() -> None:
    clock = Clock()
    replicas = Replicas(["a", "b"], clock=clock)
    replicas.failed("a", pause_s=9.0)
    replicas.failed("b", pause_s=4.0)
    assert not replicas.another_is_ready()
    with replicas.use() as where:
        assert where == "b"
