"""Messages to people against a real HTTP server: signed, told apart, never to an address inside, tried again for days."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters import notify
from perdure.adapters.notify import Notifier, outside, signature, slack_message
from perdure.config import NotifySettings
from perdure.errors import InvalidInput

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class Receiver(HTTPServer):
    """Keeps what it got; answers with ``status``."""

    status, headers = 200, {}  # type: dict[str, str]

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/told?by=perdure"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(receiver: Receiver, tmp_path: Path) -> NotifySettings:
    (tmp_path / "secret").write_text(SECRET)
    return NotifySettings(url=receiver.url, secret=f"file:{tmp_path / 'secret'}", allow_private=True)


def test_a_message_is_signed_over_its_raw_bytes(receiver: Receiver, settings: NotifySettings) -> None:
    notifier = Notifier(settings)
    assert notifier.send("hook", "msg_1", "ada@example.org", {"kind": "remind", "left": 3}).ok
    [(path, headers, body)] = receiver.got
    assert path == "/told?by=perdure"
    assert headers["host"] == f"localhost:{receiver.server_port}"
    assert json.loads(body) == {"type": "perdure.remind", "to": "ada@example.org", "data": {"kind": "remind", "left": 3}}
    signed = b"msg_1." + headers["webhook-timestamp"].encode() + b"." + body
    expected = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_published_signature() -> None:
    """The example that the reference libraries of Standard Webhooks test."""
    headers = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    with pytest.raises(InvalidInput, match="base64"):
        signature("whsec_???", "a", 1, b"")


def test_refusals_are_tried_again_later_and_gone_means_never(receiver: Receiver, settings: NotifySettings) -> None:
    notifier = Notifier(settings)
    receiver.status = 500
    assert notifier.send("hook", "a", "ada", {}).retry_after == 5
    assert notifier.send("hook", "a", "ada", {}, attempt=3).retry_after == 7_200
    receiver.status, receiver.headers = 429, {"Retry-After": "60"}
    assert notifier.send("hook", "a", "ada", {}).retry_after == 60
    receiver.headers = {"Retry-After": "999999999"}
    assert notifier.send("hook", "a", "ada", {}).retry_after == notify.RETRIES[-1]
    receiver.status, receiver.headers = 302, {"Location": "http://127.0.0.1:1/inside"}
    refused = notifier.send("hook", "a", "ada", {})
    assert (refused.ok, refused.problem) == (False, "localhost answered 302")
    receiver.status = 410
    assert notifier.send("hook", "a", "ada", {}).retry_after is None
    receiver.status = 500
    assert notifier.send("hook", "a", "ada", {}, attempt=len(notify.RETRIES)).retry_after is None


def test_an_unreachable_receiver_is_tried_again(settings: NotifySettings) -> None:
    notifier = Notifier(settings.model_copy(update={"url": "http://127.0.0.1:9/"}))
    found = notifier.send("hook", "a", "ada", {})
    assert (found.ok, found.retry_after) == (False, 5)
    assert "ConnectError" in found.problem


def test_a_receiver_that_drips_its_answer_is_left_in_time(settings: NotifySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        notifier = Notifier(settings.model_copy(update={"url": f"http://127.0.0.1:{server.getsockname()[1]}/"}))
        began = time.monotonic()
        found = notifier.send("hook", "a", "ada", {})
        thread.join(10)
    assert (found.ok, found.retry_after, found.problem) == (False, 5, "TimeoutError at 127.0.0.1")
    assert time.monotonic() - began < 5
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://10.0.0.7/", "http://169.254.169.254/latest", "http://[::1]:80/", "http://0.0.0.0/"]
)
def test_addresses_inside_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="public internet"):
        outside(url, private=False)
    assert outside(url, private=True)


def test_one_inside_address_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 443)) for address in ("93.184.216.34", "127.0.0.1")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    with pytest.raises(InvalidInput, match=r"127\.0\.0\.1"):
        outside("https://example.org/x", private=False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found[:1])
    assert outside("https://user:word@example.org/x?y=1", private=False) == ("https://93.184.216.34:443/x?y=1", "example.org")


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "http:///x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="http"):
        outside(url, private=True)


def test_slack_buttons_carry_only_what_names_the_approval() -> None:
    payload = {"kind": "approval_wanted", "model": "moderation", "approval": "a1", "evidence_sha256": "ff"}
    assert len(slack_message("ada", payload)["blocks"]) == 1, "nobody's button would count"
    message = slack_message("ada", {**payload, "slack": "slack:U1"})
    assert [button["action_id"] for button in message["blocks"][1]["elements"]] == ["approve", "reject"]
    assert {button["value"] for button in message["blocks"][1]["elements"]} == {"a1:ff"}
    assert len(slack_message("ada", {"kind": "remind", "left": 3})["blocks"]) == 1


def test_slack_and_hook_both(receiver: Receiver, settings: NotifySettings, tmp_path: Path) -> None:
    (tmp_path / "slack").write_text(receiver.url)
    notifier = Notifier(settings.model_copy(update={"slack": f"file:{tmp_path / 'slack'}"}))
    assert notifier.send("hook", "a", "ada", {"kind": "deadline"}).ok
    assert notifier.send("slack", "b", "ada", {"kind": "deadline"}).ok
    assert sorted("blocks" in json.loads(body) for _, _, body in receiver.got) == [False, True]


def test_a_channel_that_is_not_set_tells_nobody_and_a_secret_that_is_gone_is_tried_again(
    receiver: Receiver, settings: NotifySettings
) -> None:
    notifier = Notifier(settings)
    assert notifier.send("slack", "a", "ada", {}).ok
    assert receiver.got == []
    broken = Notifier(settings.model_copy(update={"secret": "file:/nowhere"}))
    found = broken.send("hook", "a", "ada", {})
    assert (found.ok, found.retry_after) == (False, 5)
