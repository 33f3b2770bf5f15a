"""What people are told: once for each thing that happened, tried again, and never for what was rolled back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from perdure.messages.pipeline import RunState
from perdure.metadata.database import Database
from perdure.metadata.repository import MessageRows
from perdure.metadata.repository.messages import tell
from perdure.teller import Teller
from tests.metadata.world import SPEC, World


class Channel:
    """Fails as often as it is told to."""

    def __init__(self, *outcomes: tuple[bool, str, float | None]) -> None:
        self.outcomes, self.sent = list(outcomes), list[tuple[str, str, int]]()

    def send(self, channel: str, id: str, target: str, payload: dict[str, object], attempt: int) -> Any:
        assert channel == "hook"
        self.sent.append((id, target, attempt))
        ok, problem, retry_after = self.outcomes.pop(0) if self.outcomes else (True, "", None)
        return type("Outcome", (), {"ok": ok, "problem": problem, "retry_after": retry_after})


def write(database: Database, *targets: str | None) -> None:
    """Messages by one channel."""
    with database.transaction() as session:
        for target in targets:
            tell(session, database.tenant, target, kind="remind", left=3)
        session.execute(text("delete from outbox where topic = 'slack' and tenant = :tenant"), {"tenant": database.tenant})


def rows(database: Database) -> list[tuple[Any, ...]]:
    query = text("select target, sent_at is not null, attempts, error from outbox where topic = 'notify' and tenant = :tenant order by id")
    with database.transaction() as session:
        return [tuple(row) for row in session.execute(query, {"tenant": database.tenant})]


def test_each_message_is_told_once(database: Database) -> None:
    write(database, "ada", None, "unknown", "bob")
    channel = Channel()
    teller = Teller(MessageRows(database), channel)
    assert [teller.run_once() for _ in range(3)] == [True, True, False]
    assert [(target, attempt) for _, target, attempt in channel.sent] == [("ada", 0), ("bob", 0)]
    assert rows(database) == [("ada", True, 1, None), ("bob", True, 1, None)]


def test_a_refusal_is_tried_again_when_it_is_due_and_under_the_same_id(database: Database) -> None:
    write(database, "ada")
    channel = Channel((False, "answered 500", 3_600.0), (False, "answered 410", None))
    teller = Teller(MessageRows(database), channel)
    assert [teller.run_once(), teller.run_once()] == [True, False]
    assert rows(database) == [("ada", False, 1, "answered 500")]
    with database.transaction() as session:
        session.execute(text("update outbox set due_at = now() where tenant = :tenant"), {"tenant": database.tenant})
    assert [teller.run_once(), teller.run_once()] == [True, False]
    assert rows(database) == [("ada", True, 2, "answered 410")]
    assert channel.sent[0][0] == channel.sent[1][0]


def test_a_channel_that_fails_repeats_nothing_on_the_other(database: Database) -> None:
    with database.transaction() as session:
        tell(session, database.tenant, "ada", kind="remind")
    messages = MessageRows(database)
    one, other = messages.claim(), messages.claim()
    assert one is not None
    assert other is not None
    assert {one.channel, other.channel} == {"hook", "slack"}
    messages.settle(one.id, "answered 500", 60.0)
    messages.settle(other.id, None, None)
    assert messages.claim() is None


def test_who_dies_while_telling_loses_nothing(database: Database) -> None:
    write(database, "ada")
    messages = MessageRows(database)
    claimed = messages.claim()
    assert claimed is not None
    assert messages.claim() is None  # another one is at it
    with database.transaction() as session:  # it died, and two minutes went by
        session.execute(
            text("update outbox set due_at = due_at - interval '2 minutes' where tenant = :tenant"), {"tenant": database.tenant}
        )
    again = messages.claim()
    assert again is not None
    assert (again.id, again.attempt) == (claimed.id, 1)
    messages.settle(again.id, None, None)
    messages.settle(claimed.id, "too late", 5.0)  # the first one wakes up
    assert rows(database) == [("ada", True, 2, None)]


def test_the_owner_is_told_of_a_failed_run_and_of_a_wanted_approval(world: World) -> None:
    spec = {**SPEC, "owner": "trust@example.org"}
    failed = world.run("failed", spec=spec)
    world.runs.close(failed.id, RunState.FAILED, {"type": "SourceMissing", "message": "no file", "remedy": "put it there"})
    world.runs.close(failed.id, RunState.FAILED, {"message": "again"})
    asking = world.run("asking", spec=spec)
    promotion = world.promotion(asking, required=1)
    world.promotion(asking, required=1)
    cancelled = world.run("cancelled", spec=spec)
    world.runs.close(cancelled.id, RunState.CANCELLED, None)
    query = text("select target, payload from outbox where topic = 'notify' and tenant = :tenant order by id")
    with world.database.transaction() as session:
        told = [tuple(row) for row in session.execute(query, {"tenant": world.database.tenant})]
    assert [target for target, _ in told] == ["trust@example.org"] * 2
    assert (told[0][1]["kind"], told[0][1]["run"], told[0][1]["remedy"]) == ("run_failed", failed.workflow_id, "put it there")
    assert (told[1][1]["kind"], told[1][1]["evidence_sha256"]) == ("approval_wanted", promotion.evaluation.evidence_sha256)
    assert "slack" not in told[1][1]


def test_a_message_says_whose_button_counts(world: World) -> None:
    spec = {**SPEC, "owner": "ann", "promote": {"approval": {"approvers": ["ada", "slack:U1"]}}}
    world.promotion(world.run("buttons", spec=spec), required=1)
    query = text("select target, payload->>'slack' from outbox where topic = 'notify' and tenant = :tenant order by id")
    with world.database.transaction() as session:
        told = [tuple(row) for row in session.execute(query, {"tenant": world.database.tenant})]
    assert told == [("ada", "slack:U1"), ("slack:U1", "slack:U1")]
