"""Tells people what concerns them: the outbox's messages, by the channels that the settings name, for up to three days.

A message is claimed before it is sent, and free again after a while if this process dies: it may be told twice, under the same id.
"""

from __future__ import annotations

import logging
from typing import Protocol

from perdure.labeling.ports import Message, Messages

log = logging.getLogger("perdure.teller")


class Outcome(Protocol):
    """How an attempt ended."""

    @property
    def ok(self) -> bool:
        """Whether it was taken."""

    @property
    def problem(self) -> str:
        """Why not."""

    @property
    def retry_after(self) -> float | None:
        """Seconds until it is tried again; none: never."""


class Channel(Protocol):
    """Where people are told."""

    def send(self, channel: str, id: str, target: str, payload: dict[str, object], attempt: int) -> Outcome:
        """One attempt. Does not raise."""


class Teller:
    """One message at a time: a channel that is slow holds up no pokes, as they are another thread's."""

    def __init__(self, messages: Messages, channel: Channel) -> None:
        self._messages, self._channel = messages, channel

    def run_once(self) -> bool:
        """Tell one message that is due. Whether there was one. Raises StoreUnavailable."""
        message: Message | None = self._messages.claim()
        if message is None:
            return False
        outcome = self._channel.send(message.channel, f"perdure-{message.id}", message.target, message.payload, message.attempt)
        if not outcome.ok:
            again = "given up" if outcome.retry_after is None else f"again in {outcome.retry_after:.0f} s"
            log.warning("nobody was told: %s (%s)", outcome.problem, again, extra={"message_id": message.id, "target": message.target})
        self._messages.settle(message.id, outcome.problem or None, outcome.retry_after if not outcome.ok else None)
        return True
