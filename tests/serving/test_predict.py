"""Requests for predictions: what is answered, by whom, and what is refused."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import UTC, datetime
from uuid import uuid4

import polars as pl
import pytest

from perdure import predictions, predictor
from perdure.config import Settings
from perdure.messages.rollout import TrafficKind
from perdure.serving.choosing import place
from tests.serving.conftest import Asking, asking, with_serving
from tests.serving.world import ROW, Served, trained


@pytest.fixture(scope="session")
def model(served: Served) -> str:
    served.release(served.version("pets", trained(served.folder, 1)))
    return "pets"


def rows(number: int, seed: int = 3) -> list[dict[str, object]]:
    dice = random.Random(seed)

    def some(value: object) -> object:
        return None if dice.random() < 0.1 else value

    return [
        {
            "size": some(dice.choice([dice.gauss(0, 3), dice.randrange(9), 5e-324, 3e38 * dice.random()])),
            "age": some(dice.randrange(-(2**62), 2**62) if dice.random() < 0.1 else dice.randrange(90)),
            "member": some(dice.random() < 0.5),
            "city": some(dice.choice(["Bonn", "Köln", "東京", ""])),
            "seen": some(f"2026-0{dice.randrange(1, 10)}-{dice.randrange(10, 29)}"),
        }
        for _ in range(number)
    ]


async def test_a_prediction_says_what_and_by_whom(client: Asking, model: str) -> None:
    await client.look()
    answer = (await client.predict(model, ROW, {**ROW, "age": None})).json()
    assert (answer["model"], answer["version"], answer["role"], len(answer["predictions"])) == (model, 1, "release", 2)
    for prediction, scores in zip(answer["predictions"], answer["scores"], strict=True):
        assert prediction == max(scores, key=scores.get)
        assert sum(scores.values()) == pytest.approx(1)
    assert all(each.startswith("pets.1.") for each in answer["prediction_ids"])
    assert len(set(answer["prediction_ids"])) == 2


async def test_scores_online_are_those_of_the_predictor_bit_for_bit_in_whatever_company(client: Asking, model: str, served: Served) -> None:
    await client.look()
    wanted = rows(600)
    alone = predictor.load(served.folder / "1.zip")
    expected = alone.predict(alone.rows(wanted)).to_dicts()
    sizes, at, parts = random.Random(1), 0, []
    while at < len(wanted):
        parts.append(wanted[at : (at := at + sizes.choice([1, 1, 2, 40]))])
    answers = await asyncio.gather(*(client.predict(model, *part) for part in parts))
    got = [row for answer in answers for row in answer.json()["scores"]]
    assert [(row["cat"].hex(), row["dog"].hex()) for row in got] == [(row["p_cat"].hex(), row["p_dog"].hex()) for row in expected]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"[]", 422, "body"),
        (b"{}", 422, "rows"),
        (b'{"rows": []}', 422, "rows"),
        (b'{"rows": [[1]]}', 422, "rows[0]"),
        (b'{"rows": [{}], "more": 1}', 422, "more"),
        (b'{"rows": [{"size": 1}]}', 422, "rows[0].age"),
        ({"size": "1"}, 422, "rows[1].size"),
        ({"size": float("nan")}, 422, "rows[1].size"),
        ({"size": float("-inf")}, 422, "rows[1].size"),
        ({"size": True}, 422, "rows[1].size"),
        ({"size": 10**400}, 422, "rows[1].size"),
        ({"size": 1e300}, 422, "rows"),  # finite, but no feature of 32 bits
        ({"age": 1.5}, 422, "rows[1].age"),
        ({"age": 2**63}, 422, "rows[1].age"),
        ({"member": 1}, 422, "rows[1].member"),
        ({"city": ["Bonn"]}, 422, "rows[1].city"),
        ({"seen": "yesterday"}, 422, "rows[1].seen"),
        ({"seen": "2026-02-30"}, 422, "rows[1].seen"),
        ({"seen": 20260203}, 422, "rows[1].seen"),
        ({"seen": "２０２６-02-03"}, 422, "rows[1].seen"),
    ],
)
async def test_what_no_model_can_use_is_refused_with_its_place(
    client: Asking, model: str, body: bytes | dict[str, object], status: int, field: str
) -> None:
    await client.look()
    content = body if isinstance(body, bytes) else json.dumps({"rows": [ROW, {**ROW, **body}]}).encode()
    answer = await client.post(f"/v1/models/{model}/predict", content=content, headers={"content-type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["field"], answer.headers["content-type"]) == (status, field, "application/problem+json"), problem
    assert problem["remedy"]


async def test_requests_beyond_the_limits_are_refused(client: Asking, model: str) -> None:
    await client.look()
    assert (await client.predict("nobody", ROW)).status_code == 404
    many = await client.predict(model, *[ROW] * 10_001)
    assert (many.status_code, many.json()["field"]) == (422, "rows")
    long = await client.post(f"/v1/models/{model}/predict", content=b" " * (8 * 2**20 + 1))
    assert (long.status_code, long.json()["type"]) == (413, "InvalidInput")
    for unit in ("", "x" * 201, 1.5, [1]):
        assert (await client.predict(model, ROW, unit=unit)).json()["field"] == "unit"


async def test_replayed_rows_keep_their_time(client: Asking, model: str) -> None:
    await client.look()
    then = (await client.predict(model, ROW, time="2011-03-01T12:00:00+01:00")).json()
    assert predictions.parse(then["prediction_ids"][0]).at == datetime(2011, 3, 1, 11, tzinfo=UTC)
    for never in ("2011-03-01T12:00:00", "2999-01-01T00:00:00Z", "1911-01-01T00:00:00Z", "noon", 1.5, "Z"):
        assert (await client.predict(model, ROW, time=never)).json()["field"] == "time"


async def test_a_row_that_breaks_the_owners_code_fails_alone(client: Asking, model: str, caplog: pytest.LogCaptureFixture) -> None:
    await client.look()
    calls = [client.predict(model, {**ROW, "city": "burst"} if number == 5 else ROW) for number in range(10)]
    answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [500 if number == 5 else 200 for number in range(10)]
    assert answers[5].json()["type"] == "UserCodeError"
    [logged] = [vars(record)["detail"] for record in caplog.records if record.message == "a request failed"]
    assert logged == "UserCodeError from OwnerCodeError from ValueError"  # what the code said may repeat the row


async def test_contributions_add_up_to_the_score(client: Asking, served: Served) -> None:
    served.release(served.version("numbers", trained(served.folder, 20, classes=())))
    served.release(served.version("three", trained(served.folder, 21, classes=("a", "b", "c"))))
    await client.look()
    answer = (await client.post("/v1/models/numbers/predict?explain=true", json={"rows": [ROW]})).json()
    [made] = answer["contributions"]
    assert made["features"].keys() == {"size", "age", "member", "length", "day"}
    assert made["bias"] + sum(made["features"].values()) == pytest.approx(answer["predictions"][0], rel=1e-5)
    assert answer["scores"] is None
    three = (await client.post("/v1/models/three/predict?explain=true", json={"rows": [ROW]})).json()
    assert three["contributions"][0].keys() == {"a", "b", "c"}
    assert (await client.post("/v1/models/three/predict?explain=1", json={"rows": [ROW]})).status_code == 422


async def test_a_canary_answers_its_share_and_a_unit_stays_with_one_version(client: Asking, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    champion, challenger = (served.version(name, trained(served.folder, seed)) for seed in (30, 31))
    release = served.release(champion)
    traffic = served.traffic(challenger, TrafficKind.CANARY, 30)
    await client.look()
    units = [f"unit {number}" for number in range(100)]
    answers = [(await client.predict(name, ROW, unit=unit)).json() for unit in units]
    expected = [2 if place(name, traffic, unit) < 30 else 1 for unit in units]
    assert [answer["version"] for answer in answers] == expected
    assert 15 < expected.count(2) < 45
    assert {(answer["role"], answer["answered_by"]) for answer in answers} == {("release", str(release)), ("canary", str(traffic))}
    header = await client.post(f"/v1/models/{name}/predict", json={"rows": [ROW]}, headers={"x-perdure-unit": units[0]})
    assert header.json()["version"] == expected[0]

    arm = served.traffic(challenger, TrafficKind.ARM, 50, unit="city")
    await client.look()
    cities = [f"city {number}" for number in range(30)]
    assert [(await client.predict(name, {**ROW, "city": city})).json()["version"] for city in cities] == [
        2 if place(name, arm, city) < 50 else 1 for city in cities
    ]
    mixed = (await client.predict(name, *({**ROW, "city": city} for city in cities))).json()
    assert mixed["version"] == 1, "rows of several units are no part of the experiment"
    assert (await client.predict(name, ROW, 1)).status_code == 422, "what is no row has no unit"

    served.traffic(challenger, TrafficKind.STANDBY, 0)
    await client.look()
    assert {(await client.predict(name, ROW)).json()["version"] for _ in range(20)} == {1}
    assert challenger.id in client.service.shelf.loaded, "standby: loaded, but silent"
    served.end_traffic(name)


async def test_a_shadow_is_scored_after_the_answer_and_its_disagreement_counted(client: Asking, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    champion, challenger = (served.version(name, trained(served.folder, seed)) for seed in (40, 41))
    served.release(champion)
    served.traffic(challenger, TrafficKind.SHADOW, 100)
    await client.look()
    asked = rows(50, seed=9)
    answer = (await client.predict(name, *asked)).json()
    assert answer["version"] == 1
    who = (name, 2, challenger.id, "shadow")
    async with asyncio.timeout(5):
        while who not in client.service.counts.totals:
            await asyncio.sleep(0.01)
    other = predictor.load(served.folder / "41.zip")
    said = other.predict(other.rows(asked))["prediction"]
    different = int((said != pl.Series(answer["predictions"])).sum())
    figures = client.service.counts.totals[who]
    assert (figures.requests, figures.rows, figures.disagreements) == (1, 50, different)
    assert different > 0
    served.end_traffic(name)


async def test_a_shadow_that_takes_longer_than_a_caller_would_wait_has_failed(migrated: Settings, served: Served) -> None:
    name = f"m{uuid4().hex[:8]}"
    champion, challenger = (served.version(name, trained(served.folder, seed)) for seed in (42, 43))
    served.release(champion)
    served.traffic(challenger, TrafficKind.SHADOW, 100)
    async with asking(with_serving(migrated, keys=False, timeout=0.3)) as client:
        await client.look()
        slow = client.service.shelf.loaded[challenger.id].predictor
        scores = slow.predict

        def late(frame: pl.DataFrame) -> pl.DataFrame:
            time.sleep(0.5)
            return scores(frame)

        slow.predict = late  # type: ignore[method-assign]
        assert (await client.predict(name, ROW)).status_code == 200
        await asyncio.sleep(0.8)
        figures = client.service.counts.totals[name, 2, challenger.id, "shadow"]
        assert (figures.requests, figures.errors, figures.rows) == (1, 1, 0), "what it says in the end counts no more"
    served.end_traffic(name)
