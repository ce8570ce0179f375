"""An OpenAI-compatible server answers: vLLM, SGLang, llama.cpp, TGI, OpenAI, Hugging Face and others.

Pictures are sent as they are, as base64 `data:` URLs. The key comes from the environment only, is read anew
for every call, and is neither stored nor logged. A call that fails for a passing reason is made again after a
growing, jittered pause, or after the pause the server asks for.
"""

import http.client
import logging
import random
import re
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import urlsplit

from vlmtools.errors import BadInput, ServerError
from vlmtools.responders._chat import (
    Adapted,
    Malformed,
    Refused,
    complaint,
    payload,
    reply,
    shown,
    without,
)
from vlmtools.responders._http import (
    UNREACHABLE,
    Guard,
    HttpAnswer,
    Passing,
    named,
    post_json,
    retry_after,
)
from vlmtools.responders._keys import KEY_ENV, Keys
from vlmtools.responders._replicas import Replicas, addresses
from vlmtools.types import Json, Reply, Request

log = logging.getLogger(__name__)

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""HTTP statuses after which the same call may succeed."""
_SPEC = re.compile(r"(?:server:)?(?P<model>(?!server:).+?)@(?P<url>https?://.+)", re.DOTALL)


@dataclass
class Server:
    """A model behind an OpenAI-compatible server.

    Args:
        model: The name the server knows.
        url: Its address, such as `http://localhost:8000/v1`; `/v1` is added when there is no path. Several, with commas
            between them, are replicas, used evenly; answers are stored under the first: others may come and go.
        concurrency: Calls in flight together at each address, at least 1.
        timeout_s: Limit on one call in seconds, from connecting to the last byte.
        retries: Further tries after a passing failure.
        backoff_s: First pause in seconds; it doubles every time, with jitter.
        max_wait_s: Longest pause in seconds; a server that asks for a longer one ends the call with an error.
        key_env: Environment variable that holds the key; empty means VLMTOOLS_API_KEY, or OPENAI_API_KEY and
            HF_TOKEN for the hosts they were made for.
        name: Shown in tables; empty takes the model's name.

    Raises:
        BadInput: The address cannot be used, or holds a password.
    """

    model: str = ""
    url: str = ""
    concurrency: int = 8
    timeout_s: float = 300.0
    retries: int = 8
    backoff_s: float = 1.0
    max_wait_s: float = 120.0
    key_env: str = ""
    name: str = ""
    _rounds: set["_Round"] = field(default_factory=set, init=False, repr=False, compare=False)
    _complaints: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _reached: bool = field(default=False, init=False, repr=False, compare=False)
    _answered: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse an address that cannot work."""
        where = addresses(self.url)
        self.endpoint, self._replicas = where[0], Replicas(where, self.backoff_s, self.max_wait_s)
        self.name, self._keys = self.name or self.model, Keys(self.key_env)
        if not self.model or self.concurrency < 1:
            raise BadInput(
                f"A server needs a model and a concurrency from 1, not {self.model!r} and {self.concurrency}."
            )

    @classmethod
    def parse(cls, spec: str, **options: Json) -> "Server":
        """Read `server:MODEL@URL`.

        Args:
            spec: Such as `server:Qwen/Qwen2.5-VL-7B-Instruct@http://localhost:8000/v1`.
            options: Further fields of this class.
        """
        match = _SPEC.fullmatch(spec.strip())
        if match is None:
            raise BadInput(
                "A server is written server:MODEL@URL, such as server:my-model@http://localhost:8000/v1."
            )
        return cls(match["model"], match["url"], **options)

    def identity(self) -> Mapping[str, Json]:
        """What, apart from the request, decides the answer; no key, no password, no query."""
        parts = urlsplit(self.endpoint)
        return {"kind": "server", "model": self.model, "url": f"{parts.scheme}://{parts.netloc}{parts.path}"}

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply]]:
        """Yield each request with its reply as it arrives, `concurrency` at a time.

        Raises:
            ServerError: The setup is wrong, so that no call can succeed: nobody listens at the address, the
                key is refused, or the server does not know the model. What fails later or for one item is a
                reply with an `error`.
        """
        this = _Round()
        self._rounds.add(this)
        waiting, running = iter(requests), dict[Future[Reply], Request]()
        n_open = self.concurrency * len(self._replicas)
        pool = ThreadPoolExecutor(n_open, thread_name_prefix="vlmtools-server")
        try:
            running.update(
                (pool.submit(self._reply, request, this), request) for request in islice(waiting, 2 * n_open)
            )
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    request = running.pop(future)
                    running.update(
                        (pool.submit(self._reply, later, this), later) for later in islice(waiting, 1)
                    )
                    yield request, future.result()
        finally:
            this.end()
            self._rounds.discard(this)
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End what is still under way; a later question starts anew."""
        for one in list(self._rounds):
            one.end()

    def _reply(self, request: Request, this: "_Round") -> Reply:
        strange = [kind for kind in shown(request) if kind not in ("image", "text")]
        if strange:
            return Reply(
                None,
                error=f"The item has {strange[0]}, and servers are sent pictures and text only. Ask a local model that "
                f"takes {strange[0]} (a hub id or folder), or give frames of it as `image` items.",
            )
        try:
            body = payload(self.model, request)
        except BadInput as error:
            return Reply(None, error=str(error))
        return self._persist(request, body, this)

    def _persist(self, request: Request, body: dict[str, Json], this: "_Round") -> Reply:
        """Try until there is an answer, a final refusal, or no try left."""
        attempt, problem = 0, ""
        while True:
            for known in list(self._complaints):
                body = without(body, known) or body
            try:
                found = self._once(request, body, this)
                self._answered = True
                return found
            except Adapted as adapted:
                body = adapted.body
                continue
            except Refused as error:
                return Reply(None, error=self._scrubbed(str(error)), modality=shown(request))
            except Passing as error:
                problem = self._scrubbed(str(error))
                few = max(2, len(self._replicas))
                limit = self.retries if self._reached or not error.unreachable else min(self.retries, few)
                ready = self._replicas.another_is_ready()
                if attempt >= limit or this.over.is_set() or (error.pause_s > self.max_wait_s and not ready):
                    return self._gave_up(request, error, problem, attempt)
                pause = 0.0 if ready else error.pause_s or self._pause(attempt)
            attempt += 1
            log.debug("%s: try %d failed (%s), next in %.1f s", self.name, attempt, problem, pause)
            this.over.wait(pause)

    def _once(self, request: Request, body: dict[str, Json], this: "_Round") -> Reply:
        with self._replicas.use() as where:
            try:
                found = self._asked(where, request, body, this)
            except Passing as error:
                self._replicas.failed(where, error.pause_s)
                raise
            except (Adapted, Refused):
                self._replicas.answered(where)
                raise
            self._replicas.answered(where)
            return found

    def _asked(self, where: str, request: Request, body: dict[str, Json], this: "_Round") -> Reply:
        try:
            answer = post_json(where, body, self._keys.headers(where), self.timeout_s, this.live)
        except ssl.SSLCertVerificationError as error:
            raise self._setup(f"its certificate is not trusted: {error.verify_message}", _HINT_TLS) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(named(error), unreachable=isinstance(error, UNREACHABLE)) from None
        self._reached = True
        if answer.status == 200:
            try:
                return reply(answer.body, request)
            except Malformed as error:
                raise Passing(str(error)) from None
        raise self._failure(answer, body)

    def _failure(self, answer: HttpAnswer, body: dict[str, Json]) -> Exception:
        """What an HTTP status other than 200 means."""
        said = self._scrubbed(complaint(answer.body))
        text = f"HTTP {answer.status}" + (f": {said}" if said else "")
        if answer.status in PASSING:
            return Passing(text, pause_s=retry_after(answer.headers.get("retry-after", "")))
        if answer.status in (400, 422) and (lighter := without(body, said)) is not None:
            if said not in self._complaints:
                self._complaints.append(said)
                log.warning("%s: the server does not take a field (%s); going on without it", self.name, said)
            return Adapted(lighter)
        hint = _HINTS.get(answer.status, "Correct the address or the request.").format(
            variable=self._keys.variable(self.endpoint) or KEY_ENV
        )
        if answer.status in (401, 403, 404, 405) and not self._answered:
            return self._setup(text, hint)
        return Refused(f"{text} {hint}")

    def _gave_up(self, request: Request, error: "Passing", problem: str, attempt: int) -> Reply:
        if error.unreachable and not self._reached:
            raise self._setup(problem, "Is the server running, and is the address right?")
        text = f"{problem} (after {attempt + 1} tries)"
        if error.pause_s > self.max_wait_s:
            text = f"{problem}; it asks to wait {error.pause_s:.0f} s, over max_wait_s={self.max_wait_s:.0f}"
        return Reply(None, error=f"The server gave no answer: {text}", modality=shown(request))

    def _setup(self, text: str, hint: str) -> ServerError:
        where = self.identity()["url"]
        return ServerError(
            f"The server at {where} does not answer for {self.model!r}: {self._scrubbed(text)} {hint}"
        )

    def _pause(self, attempt: int) -> float:
        # full jitter on the upper half: calls that failed together do not come back together
        longest = min(self.max_wait_s, self.backoff_s * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)

    def _scrubbed(self, text: str) -> str:
        return self._keys.scrubbed(text, self._replicas.where)


class _Round:
    """The calls of one `answer`, so that ending one leaves the others alone."""

    def __init__(self) -> None:
        self.over, self.live = threading.Event(), set[Guard]()

    def end(self) -> None:
        """Cut what is under way and begin nothing more."""
        self.over.set()
        for guard in list(self.live):
            guard.cut()


_HINT_TLS = "Set SSL_CERT_FILE to a file with the certificate of its authority."
_HINTS = {
    401: "Set the environment variable {variable} to a valid key, or name another one (key_env).",
    403: "The key in {variable} may not use this model: choose another key (key_env) or model.",
    404: "Check the model's name and the address: it usually ends in /v1.",
    405: "Check the address: it usually ends in /v1.",
    400: "The server refuses the request itself: check that the model takes pictures.",
    413: "The picture is too large for the server: make it smaller.",
}
