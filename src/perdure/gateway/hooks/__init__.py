"""Senders of web hooks: how each proves who it is, and what its messages mean. Pure functions of headers and bytes.

A message is verified before anything of it is parsed. What is signed but cannot be understood is `Unusable`, never an error: half of all
senders do not try again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from perdure.config import resolve_secret
from perdure.errors import InvalidInput
from perdure.events import cloudevents
from perdure.gateway.hooks import events, labelstudio, slack, standard
from perdure.gateway.hooks.reading import Malformed, Message, Unproven
from perdure.metadata.repository.access import Hook
from perdure.metadata.tables import HookProvider

__all__ = ["KEPT_HEADERS", "PROVIDERS", "SIGNED", "Malformed", "Message", "Provider", "Unproven", "fingerprint", "secret_for"]

KEPT_HEADERS = ("content-type", "user-agent", "webhook-id", "webhook-timestamp", *(f"ce-{name}" for name in cloudevents.ATTRIBUTES))
"""What is kept of a message's headers: what its meaning needs, and nothing that proves anything."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One kind of sender.

    ``verify`` takes headers, body, secrets and the time; it raises `Malformed` or `Unproven`, and returns the sender's name for the
    message where it has one. ``read`` takes the hook, the body, when it came, and the headers that are kept.
    """

    media: tuple[str, ...]
    verify: Callable[[Mapping[str, str], bytes, Sequence[str], float], str | None]
    read: Callable[[Hook, bytes, datetime, Mapping[str, str]], Message]


PROVIDERS = {
    HookProvider.STANDARD: Provider(media=("application/json",), verify=standard.verify, read=standard.read),
    HookProvider.LABEL_STUDIO: Provider(media=("application/json",), verify=labelstudio.verify, read=labelstudio.read),
    HookProvider.SLACK: Provider(media=("application/x-www-form-urlencoded",), verify=slack.verify, read=slack.read),
    HookProvider.EVENTS: Provider(media=cloudevents.MEDIA, verify=standard.verify, read=events.read),
    HookProvider.ALERTMANAGER: Provider(media=("application/json",), verify=labelstudio.verify, read=events.read_alerts),
    HookProvider.SIGNAL: Provider(media=(), verify=events.verify_signal, read=events.read_signal),
}


SIGNED = (HookProvider.STANDARD, HookProvider.EVENTS)
"""Providers that sign by Standard Webhooks, with a secret of that form."""


def secret_for(provider: HookProvider, reference: str) -> str:
    """The secret that *reference* names. Raises InvalidInput where it cannot be read, or nothing can be verified with it."""
    secret = resolve_secret(reference)
    if provider in SIGNED and not standard.fits(secret):
        raise InvalidInput(f"the secret {reference!r} is not whsec_ and base64", remedy="leave --secret out: a new one is made")
    return secret


def fingerprint(body: bytes) -> str:
    """The sha256 of a body."""
    return sha256(body).hexdigest()
