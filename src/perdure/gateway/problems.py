"""Refusals of the gateway: those of every HTTP process, and its own."""

from __future__ import annotations

from perdure.errors import StoreUnavailable
from perdure.web.problems import EXPECTED, MEDIA, Mistake, Problem, Refusal, Refused, install, refusal, responses, status_of

__all__ = ["EXPECTED", "MEDIA", "Mistake", "Problem", "Refusal", "Refused", "busy", "install", "refusal", "responses", "status_of"]


def busy() -> StoreUnavailable:
    """More is waiting for Postgres than it takes."""
    return StoreUnavailable("more answers wait to be stored than are stored", remedy="send again in a few seconds")
