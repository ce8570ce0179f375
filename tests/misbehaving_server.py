"""A real OpenAI-compatible server on 127.0.0.1 that misbehaves as told, and remembers what it was sent."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Trouble = str | None
"""One of the branches of `_Handler._misbehave`, or None for a proper answer."""


@dataclass
class Log:
    """What the server saw.

    Args:
        bodies: Every body, parsed.
        headers: Every request's headers.
        times: When each call came in.
        in_flight: Calls being handled now.
        peak: The most calls handled together.
    """

    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def question(body: dict[str, Any]) -> str:
    """The text of the one user turn."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """The proper answer: it repeats the question."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": f" echo {question(body)}"},
        "finish_reason": "length" if body.get("max_tokens") == 1 else "stop",
    }
    if body.get("logprobs"):
        likely = [
            {"token": "Yes", "logprob": -0.25},
            {"token": "No", "logprob": -2.0},
            {"token": "Yes", "logprob": -5.0},
        ]
        choice["logprobs"] = {"content": [{"token": "Yes", "logprob": -0.25, "top_logprobs": likely}]}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


@contextlib.contextmanager
def serving(
    trouble: Callable[[int, dict[str, Any]], Trouble] = lambda _n, _b: None, delay_s: float = 0.0
) -> Iterator[Log]:
    """Serve until the block ends.

    Args:
        trouble: What goes wrong with the n-th call (from 0); None answers properly.
        delay_s: Time every proper answer takes.
    """
    log, over = Log(), threading.Event()

    class Handler(_Handler):
        pass

    Handler.log, Handler.trouble, Handler.delay_s, Handler.over = log, staticmethod(trouble), delay_s, over
    server = _Quiet(("127.0.0.1", 0), Handler)
    log.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield log
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point of the exercise."""


class _Handler(BaseHTTPRequestHandler):
    log: Log
    trouble: Callable[[int, dict[str, Any]], Trouble]
    delay_s: float
    over: threading.Event
    counted: bool = False

    def log_message(self, *_args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.log.lock:
            number = len(self.log.bodies)
            self.log.bodies.append(body)
            self.log.headers.append(dict(self.headers))
            self.log.paths.append(self.path)
            self.log.times.append(time.monotonic())
            self.log.in_flight += 1
            self.log.peak = max(self.log.peak, self.log.in_flight)
            self.counted = True
        try:
            self._answer(self.trouble(number, body), body)
        finally:
            self._leave()

    def _leave(self) -> None:
        """The call is over; once per call."""
        with self.log.lock:
            self.log.in_flight -= self.counted
            self.counted = False

    def _answer(self, trouble: Trouble, body: dict[str, Any]) -> None:
        if trouble is not None:
            self._misbehave(trouble, body)
            return
        if self.delay_s:
            self.over.wait(self.delay_s)
        self._leave()  # before the client can have read the answer and begun its next call
        self._send(200, json.dumps(completion(body)).encode())

    def _misbehave(self, trouble: str, body: dict[str, Any]) -> None:
        good = json.dumps(completion(body)).encode()
        kind, _, value = trouble.partition(":")
        if kind.isdigit():
            said = {"error": {"message": value or f"status {kind}"}}
            self._send(int(kind), json.dumps(said).encode())
        elif kind == "wait":  # wait:SECONDS
            self._send(429, b'{"error": {"message": "slow down"}}', extra={"Retry-After": value})
        elif kind == "hang":
            self.over.wait(30)
        elif kind == "drip":
            self._start(200, len(good))
            for byte in good:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.over.wait(0.05):
                    return
        elif (
            kind == "truncated"
        ):  # says so many bytes and sends fewer, valid HTTP for a client that does not count
            self._start(200, None)
            self.wfile.write(good[: len(good) // 2])
            self.close_connection = True
        elif kind == "mid-body":
            self._start(200, len(good))
            self.wfile.write(good[: len(good) // 2])
            self.close_connection = True
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif kind == "no-answer":
            self.close_connection = True
        elif kind == "garbage":
            self.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")
            self.close_connection = True
        elif kind == "html":
            self._send(200, b"<!DOCTYPE html><html><body>Sign in</body></html>", kind="text/html")
        elif kind == "plain-type":
            self._send(200, good, kind="text/plain")
        elif kind == "raw":
            self._send(200, value.encode())
        elif kind == "redirect":
            self._send(307, b"", extra={"Location": value})
        else:
            raise ValueError(trouble)

    def _start(
        self, status: int, length: int | None, kind: str = "application/json", extra: Any = ()
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in dict(extra).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, body: bytes, kind: str = "application/json", extra: Any = ()) -> None:
        self._start(status, len(body), kind, extra)
        self.wfile.write(body)
