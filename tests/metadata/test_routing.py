"""Who answers, as serving processes read it."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import func, select, update

from perdure.metadata import tables as t
from perdure.metadata.queries.routing import Candidate, Route, Version, routes
from perdure.metadata.repository import RollbackRows
from perdure.ports import ModelVersion
from tests.metadata.world import World


def of(version: ModelVersion) -> Version:
    return Version(id=version.id, number=version.number, predictor=version.predictor)


def test_routes_name_the_released_version_the_one_before_and_the_candidate(world: World) -> None:
    assert routes(world.database) == []
    first = world.released("1")
    [route] = routes(world.database)
    assert (route.model, route.released, route.previous, route.candidate) == ("moderation", of(first), None, None)

    second = world.released("2", champion=first)
    third = world.promotion(world.run("3"), champion=second)
    candidate = t.Traffic(
        id=uuid4(),
        tenant=world.database.tenant,
        model="moderation",
        model_version_id=third.model_version,
        promotion_id=third.id,
        stage=0,
        kind=t.TrafficKind.ARM,
        share=12.5,
        since=func.clock_timestamp(),
    )
    with world.database.transaction() as session:
        session.add(candidate)
        session.flush()
        session.add(
            t.Experiment(
                id=candidate.id,
                tenant=world.database.tenant,
                model="moderation",
                promotion_id=third.id,
                champion_id=second.id,
                challenger_id=third.model_version,
                spec={"unit": "sender"},
                started_at=func.now(),
            )
        )
    with world.database.transaction() as session:
        release = session.scalars(
            select(t.Release.id).where(t.Release.model_version_id == second.id, t.Release.tenant == world.database.tenant)
        ).one()
    arm = Candidate(
        traffic=candidate.id, version=of(world.models.version(third.model_version)), kind=t.TrafficKind.ARM, share=12.5, unit="sender"
    )
    expected = Route(model="moderation", release=release, released=of(second), previous=of(first), candidate=arm)
    assert routes(world.database) == routes(world.database, ["moderation"]) == [expected]
    assert [each.number for each in expected.versions] == [2, 3, 1]
    assert routes(world.database, ["another"]) == []

    with world.database.transaction() as session:
        session.execute(update(t.Traffic).where(t.Traffic.id == candidate.id).values(until=func.clock_timestamp(), outcome="passed"))
    assert [route.candidate for route in routes(world.database)] == [None]


def test_the_version_before_is_the_one_that_a_rollback_leads_to(world: World) -> None:
    first = world.released("1")
    second = world.released("2", champion=first)
    world.released("3", champion=second)
    before = []
    for command in ("c1", "c2"):
        before += [route.previous for route in routes(world.database)]
        RollbackRows(world.database).rollback("moderation", to=None, reason="odd", actor="ann", command_id=command)
    [last] = routes(world.database)
    assert (before, last.released) == ([of(second), of(first)], of(first))
