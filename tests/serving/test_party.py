"""As whom an experiment counts a request."""

from __future__ import annotations

from uuid import uuid4

import pytest

from perdure.messages.common import ArtifactRef
from perdure.messages.rollout import TrafficKind
from perdure.metadata.queries.routing import Candidate, Version
from perdure.serving.answering import Call, party

VERSION = Version(id=uuid4(), number=2, predictor=ArtifactRef(uri="s3://b/p.zip", sha256="0" * 64))


def experiment(unit: str | None) -> Candidate:
    return Candidate(traffic=uuid4(), version=VERSION, kind=TrafficKind.ARM, share=50, unit=unit)


def call(unit: str | None = None, city: str | None = None, version: int | None = None) -> Call:
    return Call(model="m", unit=unit, unit_in={"city": city}.get, version=version)


@pytest.mark.parametrize(
    ("column", "asked", "counted"),
    [
        (None, call("ada"), "ada"),
        ("city", call("ada", "rome"), "ada"),
        ("city", call(None, "rome"), "rome"),
        ("city", call(), None),  # rows of several cities
        (None, call(), "r1"),
        (None, call("ada", version=2), None),  # it chose its version: chance had no part in it
        ("city", call(None, "rome", version=1), None),
    ],
)
def test_who_a_request_is_to_an_experiment(column: str | None, asked: Call, counted: str | None) -> None:
    assert party(experiment(column), asked, "r1") == counted
