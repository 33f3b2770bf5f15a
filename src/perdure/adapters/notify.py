"""Tells people: signed web hooks to an address of the owner's, and Slack messages.

Signatures are those of Standard Webhooks (`perdure.signing`). An address is resolved once, checked, and connected to by number, so that a
name which changes its mind between check and connection cannot reach the inside.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from perdure.config import NotifySettings, resolve_secret
from perdure.errors import InvalidInput
from perdure.signing import sign

TIMEOUT = 15.0  # seconds for a whole attempt: a receiver that drips its answer holds up nobody
MOST_BYTES = 20_000  # of a body: it says what happened and where to look, not everything
RETRIES = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)  # seconds after each attempt; the specification's schedule


@dataclass(frozen=True, kw_only=True)
class Sent:
    """How an attempt ended. ``retry_after`` none with ``ok`` false: never again (the receiver said that it is gone, or cannot be meant)."""

    ok: bool
    problem: str = ""
    retry_after: float | None = None


class Notifier:
    """Sends messages by the channels that the settings name."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self._trusted = httpx.create_ssl_context(trust_env=False)

    def send(self, channel: str, id: str, target: str, payload: dict[str, Any], attempt: int = 0) -> Sent:
        """Send the message *id* for *target* (a person or group) by *channel*, ``hook`` or ``slack``; by one that is not set, to nobody.

        The same id at every attempt: receivers tell repeats by it. Does not raise.
        """
        try:
            if channel == "slack":
                return (
                    self._slack(resolve_secret(self._settings.slack), target, payload, attempt) if self._settings.slack else Sent(ok=True)
                )
            return self._hook(self._settings.url, id, target, payload, attempt) if self._settings.url else Sent(ok=True)
        except InvalidInput as err:
            return Sent(ok=False, problem=err.problem, retry_after=_again(attempt))

    def _hook(self, url: str, id: str, target: str, payload: dict[str, Any], attempt: int) -> Sent:
        body = json.dumps({"type": f"perdure.{payload.get('kind', 'message')}", "to": target, "data": payload}, default=str).encode()
        if len(body) > MOST_BYTES:
            return Sent(ok=False, problem=f"the message has {len(body)} bytes; at most {MOST_BYTES} are sent")
        headers = {"content-type": "application/json"}
        if self._settings.secret:
            headers |= signature(resolve_secret(self._settings.secret), id, int(time.time()), body)
        return self._post(url, body, headers, attempt)

    def _slack(self, url: str, target: str, payload: dict[str, Any], attempt: int) -> Sent:
        body = json.dumps(slack_message(target, payload), default=str).encode()
        return self._post(url, body, {"content-type": "application/json"}, attempt)

    def _post(self, url: str, body: bytes, headers: dict[str, str], attempt: int) -> Sent:
        again = _again(attempt)
        try:
            address, name = outside(url, private=self._settings.allow_private)
            answer = asyncio.run(self._ask(address, body, {**headers, "host": name}))
        except (httpx.HTTPError, OSError) as err:  # a TimeoutError is an OSError
            return Sent(ok=False, problem=f"{type(err).__name__} at {urlsplit(url).hostname}", retry_after=again)
        if answer.is_success:
            return Sent(ok=True)
        problem = f"{urlsplit(url).hostname} answered {answer.status_code}"
        if answer.status_code == httpx.codes.GONE:
            return Sent(ok=False, problem=problem)
        wished = re.fullmatch(r"[0-9]{1,9}", answer.headers.get("retry-after", ""))
        later = min(float(wished[0]), RETRIES[-1]) if wished else 0.0  # no receiver parks a message for years
        return Sent(ok=False, problem=problem, retry_after=max(again, later) if again else again)

    async def _ask(self, address: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        """The status and headers; what it answers beside them is not read."""
        client = httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False, verify=self._trusted)
        extensions = {"sni_hostname": headers["host"].split(":")[0]}
        sending = client.stream("POST", address, content=body, headers=headers, extensions=extensions)
        async with asyncio.timeout(TIMEOUT), client, sending as answer:
            return answer


def _again(attempt: int) -> float | None:
    return float(RETRIES[attempt]) if attempt < len(RETRIES) else None


def signature(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers. Raises InvalidInput where *secret* is none."""
    try:
        signed = sign(secret, id, str(timestamp), body)
    except ValueError as err:
        raise InvalidInput(str(err), field="notify.secret", remedy="make one: `openssl rand -base64 32`, written after whsec_") from err
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signed}


def outside(url: str, *, private: bool) -> tuple[str, str]:
    """*url* with its host as a number, and the name that belongs into ``Host``.

    Raises InvalidInput for anything but http(s), and, unless *private*, for an address that is not on the public internet, whatever of its
    addresses that is.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("only http and https addresses are told", field="notify.url")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    except OSError as err:
        raise InvalidInput(f"{parts.hostname} has no address", field="notify.url") from err
    inside = sorted(address for address in found if not ipaddress.ip_address(address.split("%")[0]).is_global)
    if inside and not private:
        raise InvalidInput(
            f"{parts.hostname} is {inside[0]}, which is not on the public internet",
            field="notify.url",
            remedy="set notify.allow_private where that is meant",
        )
    number = sorted(found)[0]
    literal = f"[{number}]" if ":" in number else number
    return urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, "")), parts.netloc.rpartition("@")[2]


def slack_message(target: str, payload: dict[str, Any]) -> dict[str, Any]:
    """A message for a Slack incoming web hook. Where an approval is wanted of somebody there, with buttons.

    They carry nothing but its id and evidence.
    """
    lines = [f"*{str(payload.get('kind', 'message')).replace('_', ' ')}* for {target}"]
    lines += [f"{key}: {value}" for key, value in payload.items() if key not in ("kind", "approval", "evidence_sha256", "slack")]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:2_900]}}]
    if (approval := payload.get("approval")) and payload.get("slack"):
        value = f"{approval}:{payload.get('evidence_sha256', '')}"
        buttons = [
            {"type": "button", "text": {"type": "plain_text", "text": text}, "action_id": action, "value": value, "style": style}
            for text, action, style in (("Approve", "approve", "primary"), ("Reject", "reject", "danger"))
        ]
        blocks.append({"type": "actions", "elements": buttons})
    return {"text": lines[0], "blocks": blocks}
