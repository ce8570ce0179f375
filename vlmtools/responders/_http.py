"""One POST of JSON with a limit on the whole call, and nothing sent that the caller did not hand over.

The client of huggingface_hub would do most of this, but without a key it sends the locally saved Hugging Face
token to whatever server it talks to, its time limit starts anew with every byte, and HF_HUB_OFFLINE forbids
it even localhost. Redirects are not followed here, because the key would go along.
"""

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from vlmtools.errors import BadInput

MAX_ANSWER_BYTES = 64 * 2**20
UNREACHABLE = (ConnectionRefusedError, socket.gaierror)
"""Nobody listens at the address."""


class Passing(Exception):
    """A failure that may pass."""

    def __init__(self, text: str, pause_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(text)
        self.pause_s, self.unreachable = pause_s, unreachable


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server sent back.

    Args:
        status: The HTTP status.
        headers: By lower-case name.
        body: The bytes.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def post_json(
    url: str,
    payload: Any,
    headers: Mapping[str, str],
    timeout_s: float,
    live: "set[Guard] | None" = None,
) -> HttpAnswer:
    """Send JSON and read the whole answer.

    Args:
        url: `http:` or `https:`.
        payload: What `json.dumps` writes.
        headers: Sent along.
        timeout_s: Limit in seconds on the whole call: connecting, waiting and reading.
        live: Holds this call's guard while it runs, so that another thread can `cut` it.

    Raises:
        TimeoutError: The limit is reached, even if bytes still trickle in.
        OSError: No connection, or it broke.
        http.client.HTTPException: The answer is not HTTP, or ends too early.
    """
    deadline = time.monotonic() + timeout_s
    connection, target = _connection(url, timeout_s)
    try:
        connection.connect()
        with Guard(connection, deadline, set() if live is None else live) as guard:
            body = json.dumps(payload).encode("utf-8")
            connection.request("POST", target, body, {"Content-Type": "application/json", **headers})
            answer = _read(connection.getresponse())
            guard.check()
            return answer
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse) -> HttpAnswer:
    body = response.read(MAX_ANSWER_BYTES)
    left = response.length or 0  # read(n) does not complain about a body that is shorter than announced
    if left and len(body) < MAX_ANSWER_BYTES:
        raise http.client.IncompleteRead(b"", left)
    return HttpAnswer(response.status, {key.lower(): value for key, value in response.getheaders()}, body)


class Guard:
    """Cuts the connection at the deadline, whatever it is doing; what then happens is a TimeoutError."""

    def __init__(self, connection: http.client.HTTPConnection, deadline: float, live: "set[Guard]") -> None:
        self.socket, self.live, self.was_cut = connection.sock, live, threading.Event()
        self.timer = threading.Timer(max(0.0, deadline - time.monotonic()), self.cut)
        self.timer.daemon = True

    def __enter__(self) -> "Guard":
        """Start the clock."""
        self.live.add(self)
        self.timer.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Stop the clock."""
        self.timer.cancel()
        self.live.discard(self)
        if isinstance(error, Exception):
            self.check()

    def check(self) -> None:
        """Raise TimeoutError when the connection was cut."""
        if self.was_cut.is_set():
            raise TimeoutError("the time limit of the call is reached") from None

    def cut(self) -> None:
        """End the call now."""
        self.was_cut.set()
        with contextlib.suppress(OSError):  # closed already
            self.socket.shutdown(socket.SHUT_RDWR)


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection, through the proxy the environment names if any, and what stands in the request line."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy is None:
        return _open(parts.scheme, host, port, timeout_s), target
    via = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    if parts.scheme == "http":
        return _open("http", via.hostname or "", via.port, timeout_s), url
    tunnel = _open("https", via.hostname or "", via.port, timeout_s)
    tunnel.set_tunnel(host, port or 443)
    return tunnel, target


def _open(scheme: str, host: str, port: int | None, timeout_s: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(
            host, port, timeout=timeout_s, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def retry_after(value: str) -> float:
    """Seconds a server asks to wait: a number or an HTTP date; 0 when it does not say.

    Args:
        value: The `Retry-After` header.
    """
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def endpoint(url: str) -> str:
    """The address of chat completions under a base address; `/v1` is added when it has no path.

    Args:
        url: Such as `http://localhost:8000/v1`.

    Raises:
        BadInput: It is no `http(s)` URL, or holds a password.
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise BadInput("The address of the server is not a URL such as http://localhost:8000/v1. Correct it.")
    if parts.username is not None or parts.password is not None:
        raise BadInput(
            f"The address of the server at {parts.hostname} holds a password. Put the key into VLMTOOLS_API_KEY."
        )
    path = parts.path.rstrip("/") or "/v1"
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return parts._replace(path=path, fragment="").geturl()


def named(error: Exception) -> str:
    """An error's kind and what it says.

    Args:
        error: Of the connection.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
