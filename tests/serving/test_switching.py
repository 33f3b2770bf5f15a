"""Who answers while rows change: nothing is switched to before it is loaded, and no request fails by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select

from perdure.config import Settings
from perdure.messages.common import ArtifactRef
from perdure.messages.rollout import TrafficKind
from perdure.metadata import tables as t
from perdure.metadata.queries.routing import Candidate, Route, Version
from perdure.metadata.repository import AccessRows
from perdure.ports import ModelVersion
from perdure.serving.directory import wanted
from tests.serving.conftest import Asking, asking, with_serving
from tests.serving.world import ROW, Served, custom, trained


@pytest.fixture(scope="session")
def versions(served: Served) -> list[ModelVersion]:
    return [served.version("switched", trained(served.folder, seed)) for seed in (50, 51)]


async def test_switching_releases_under_load_fails_nothing(client: Asking, served: Served, versions: list[ModelVersion]) -> None:
    served.release(versions[0])
    await client.look()
    failed, seen, stop = list[str](), list[tuple[float, int]](), asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            answer = await client.predict("switched", ROW)
            if answer.status_code != 200:
                failed.append(answer.text)
            else:
                seen.append((time.monotonic(), answer.json()["version"]))

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ask())
        late = []
        for number in range(6):
            version = versions[(number + 1) % 2]
            await asyncio.to_thread(served.release, version)
            at = time.monotonic()
            async with asyncio.timeout(10):
                while not seen or seen[-1][1] != version.number:
                    await asyncio.sleep(0.005)
            late.append(next(when for when, number in seen if when > at and number == version.number) - at)
            await asyncio.sleep(0.1)
        stop.set()
    assert failed == []
    assert len(seen) > 50
    assert max(late[1:]) < 1.0, "both are loaded: only rows are switched"


async def test_a_released_version_that_cannot_be_loaded_answers_nothing_and_says_why(client: Asking, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    good, gone = served.version(name, trained(served.folder, 60)), served.missing(name)
    served.release(good)
    await client.look()
    assert (await client.predict(name, ROW)).status_code == 200
    served.release(gone)
    await client.look()
    refused = await client.predict(name, ROW)
    assert (refused.status_code, refused.json()["type"]) == (503, "ModelUnavailable")
    assert "does not exist" in refused.json()["detail"]
    served.release(good)
    await client.look()
    assert (await client.predict(name, ROW)).json()["version"] == 1


async def test_a_process_tells_what_it_has_loaded_and_counted(client: Asking, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    good, gone = served.version(name, trained(served.folder, 61)), served.missing(name)
    served.release(good)
    served.traffic(gone, TrafficKind.STANDBY, 0)
    await client.look()
    for _ in range(3):
        await client.predict(name, ROW, ROW)
    await client.predict(name, {**ROW, "city": "burst"})
    await client.predict(name, {**ROW, "size": "refused"})
    await client.service._report()
    with served.world.database.transaction() as session:
        instance = session.get_one(t.ServingInstance, client.service.instance)
        assert str(good.id) in instance.loaded
        assert "does not exist" in instance.failed[str(gone.id)]
        windows = session.scalars(select(t.ServingWindow).where(t.ServingWindow.model_version_id == good.id)).all()
        counted = [sum(getattr(each, name) for each in windows) for name in ("requests", "rows", "errors", "disagreements")]
        assert counted == [4, 6, 1, 0], "a request that the caller got wrong is not the version's"
        assert sum(sum(each.latency) for each in windows) == 4
        assert {each.role for each in windows} == {"release"}
    metrics = (await client.get("/metrics")).text
    assert f'perdure_serving_requests_total{{model="{name}",role="release",version="1"}} 4.0' in metrics
    assert f'perdure_serving_latency_seconds_bucket{{le="+Inf",model="{name}",role="release",version="1"}} 4.0' in metrics
    assert 'perdure_serving_refused_total{status="422"}' in metrics
    served.end_traffic(name)
    assert sum(client.service.counts.totals[name, 1, good.id, "release"].classes.values()) == 6


async def test_a_key_with_the_scope_opens_and_no_other(migrated: Settings, served: Served, versions: list[ModelVersion]) -> None:
    served.release(versions[0])
    keys = AccessRows(served.world.database)
    good, other = keys.create_key("shop", ["predict"])[1], keys.create_key("ada", ["label"])[1]
    async with asking(migrated) as client:
        await client.look()
        for path, status in (
            ("/healthz", 200),
            ("/readyz", 200),
            ("/v2/health/ready", 200),
            ("/metrics", 200),
            ("/v2/models/switched", 401),
        ):
            assert (await client.get(path)).status_code == status, path
        assert (await client.predict("switched", ROW)).status_code == 401
        for secret, status in ((good, 200), (other, 403), ("pdr_wrong", 401)):
            client.headers["authorization"] = f"Bearer {secret}"
            assert (await client.predict("switched", ROW)).status_code == status
        client.headers["authorization"] = f"Bearer {good}"

        def away(*_: object) -> None:
            from perdure.errors import StoreUnavailable

            raise StoreUnavailable("Postgres is away")

        client.service.keys._lookup = client.service.directory._clock = away  # type: ignore[assignment]
        client.service.keys._seconds = 0.0
        client.service.directory._clock = time.monotonic
        assert (await client.predict("switched", ROW)).status_code == 200, "a key that was good is believed while Postgres is away"
        client.headers["authorization"] = "Bearer pdr_unknown"
        assert (await client.predict("switched", ROW)).status_code == 503


async def test_rows_that_were_read_too_long_ago_answer_nothing(migrated: Settings, served: Served, versions: list[ModelVersion]) -> None:
    served.release(versions[0])
    async with asking(with_serving(migrated, keys=False, stale=5)) as client:
        await client.look()
        assert (await client.predict("switched", ROW)).status_code == 200
        client.service.directory._clock = lambda: time.monotonic() + 60
        assert (await client.predict("switched", ROW)).json()["type"] == "ModelUnavailable"
        assert (await client.get("/readyz")).status_code == 503


async def test_more_models_than_have_a_place_are_loaded_when_asked(migrated: Settings, served: Served) -> None:
    names = [f"many{number}" for number in range(4)]
    path = trained(served.folder, 70)
    async with asking(with_serving(migrated, keys=False, models=2)) as client:
        for name in names:
            served.release(served.version(name, path))
        await client.look()
        for name in (*names, *reversed(names)):
            assert (await client.predict(name, ROW)).json()["model"] == name
            assert len(client.service.shelf.loaded) <= 2


async def test_a_model_without_a_place_is_not_loaded_by_who_asks(
    migrated: Settings, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.release(served.version("large", trained(served.folder, 71)))
    async with asking(with_serving(migrated, keys=False, memory=0)) as client:
        await client.look()
        monkeypatch.setattr(client.service.shelf, "load", lambda *asked: pytest.fail("it has no place"))
        for _ in range(2):
            answer = await client.predict("large", ROW)
            assert (answer.status_code, "no place" in answer.json()["detail"]) == (503, True)


def test_places_go_to_rollouts_then_to_what_was_used_last_then_to_those_before() -> None:
    def version(number: int, size: int = 10) -> Version:
        return Version(id=UUID(int=number), number=number, predictor=ArtifactRef(uri="s3://b/k", sha256="0" * 64, size=size))

    def numbers(routes: Sequence[Route], used: dict[str, float], most: int = 99, memory: int = 10**6) -> list[int]:
        return [each.number for _, each in wanted(routes, used, {}, most, memory)]

    rolling = Candidate(traffic=UUID(int=9), version=version(4), kind=TrafficKind.STANDBY, share=0)
    routes = [
        Route(model="a", released=version(1), previous=version(5)),
        Route(model="b", released=version(2)),
        Route(model="c", released=version(3), candidate=rolling),
    ]
    assert numbers(routes, {}) == [3, 4, 1, 2, 5]
    assert numbers(routes, {"b": 5.0}) == [3, 4, 2, 1, 5]
    assert numbers(routes, {"b": 5.0}, most=3) == [3, 4, 2]
    assert numbers(routes, {}, memory=25) == [3, 4]
    assert numbers([Route(model="a", released=version(1, size=100)), routes[1]], {}, memory=50) == [2]


async def test_owners_models_need_leave_and_run_in_a_process_of_their_own(migrated: Settings, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    version = served.version(name, custom(served.folder))
    served.release(version)
    async with asking(with_serving(migrated, keys=False)) as client:
        await client.look()
        assert "serving.custom" in (await client.predict(name, ROW)).json()["detail"]
    async with asking(with_serving(migrated, keys=False, custom=True, timeout=1.0, models=1)) as client:
        client.service.directory._used[name] = time.monotonic()
        await client.look()
        first = (await client.predict(name, ROW)).json()
        assert first["scores"][0]["dog"] == pytest.approx(1 / (1 + 2.718281828**-0.8))
        assert (await client.post(f"/v1/models/{name}/predict?explain=true", json={"rows": [ROW]})).json()["field"] == "explain"
        child = client.service.shelf.loaded[version.id].predictor._child  # type: ignore[union-attr]
        assert (await client.predict(name, {**ROW, "city": "burst"})).json()["type"] == "UserCodeError"
        died = await client.predict(name, {**ROW, "age": 13})
        assert (died.status_code, "exit code 3" in died.json()["detail"]) == (503, True)
        assert (await answer(client, name)).json()["scores"] == first["scores"], "another process has taken its place"
        assert child.poll() == 3
        hung = await client.predict(name, {**ROW, "age": 17})
        assert (hung.status_code, hung.json()["type"]) == (503, "ModelUnavailable")
        again = client.service.shelf.loaded[version.id].predictor
        await answer(client, name)
        child = again._child  # type: ignore[union-attr]
    assert child.poll() is not None, "it ends with us"


async def answer(client: Asking, model: str) -> httpx.Response:
    """Of a model whose process is being started again, which may take longer than a caller waits."""
    async with asyncio.timeout(20):
        while (found := await client.predict(model, ROW)).status_code != 200:
            await asyncio.sleep(0.2)
    return found
