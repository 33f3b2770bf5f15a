"""Which version answers a request: a stable hash, so that a unit sees one version for as long as the shares stay."""

from __future__ import annotations

import hashlib
from uuid import UUID

from perdure.messages.rollout import TrafficKind
from perdure.metadata.queries.routing import Candidate


def place(model: str, traffic: UUID, key: str) -> float:
    """Where *key* (a unit, or a request) falls among 0 to 100 percent: the same in every process, another one in each traffic row."""
    digest = hashlib.sha256(f"{model}/{traffic}/{key}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100


def takes(model: str, candidate: Candidate, key: str) -> bool:
    """Whether *candidate* takes part in the request of *key*: to answer it, or as a shadow."""
    return candidate.kind is not TrafficKind.STANDBY and place(model, candidate.traffic, key) < candidate.share
