"""Outcomes and feedback through HTTP."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from perdure.metadata.database import Database
from perdure.predictions import new_request, prediction_id
from tests.gateway.world import People
from tests.metadata.world import World

Client = httpx.AsyncClient
SCOPE = "outcomes:write"


@pytest.fixture(scope="module")
def model(database: Database) -> str:
    """A model with one version."""
    name = f"m{uuid4().hex[:8]}"
    world = World(database)
    world.model(world.run(name), f"{name}.zip", name)
    return name


def new_id(model: str, version: int = 1) -> str:
    return prediction_id(model, version, new_request())


async def post(client: Client, path: str, headers: dict[str, str], **body: Any) -> Any:
    response = await client.post(f"/v1/{path}", json=body, headers=headers)
    return response.status_code, response.json()


async def test_an_outcome_is_told_once_and_corrected(client: Client, people: People, model: str) -> None:
    app, id = people("app", SCOPE), new_id(model)
    status, said = await post(client, "outcomes", app, prediction_id=id, value="spam", observed_at="2026-11-01T12:00:00Z")
    assert (status, said["accepted"], said["refused"]) == (202, 1, 0)
    status, again = await post(client, "outcomes", app, prediction_id=id, value="spam", observed_at="2026-11-01T13:00:00+01:00")
    assert (status, again["accepted"], again["duplicates"]) == (202, 0, 1)
    assert again["results"][0]["id"] == said["results"][0]["id"]
    status, wrong = await post(client, "outcomes", app, prediction_id=id, value="ham", observed_at="2026-11-01T12:00:00Z")
    assert (status, wrong["type"], wrong["field"]) == (422, "InvalidInput", "observed_at")
    status, other = await post(client, "outcomes", app, prediction_id=id, value="ham", observed_at="2026-11-01T12:00:00Z", source="crm")
    assert other["accepted"] == 1  # another source knows otherwise


async def test_a_batch_tells_of_each_and_one_mistake_holds_up_no_other(client: Client, people: People, model: str) -> None:
    ids = [new_id(model), new_id(model, 9), "x", new_id("nobody")]
    status, said = await post(client, "outcomes", people("app", SCOPE), outcomes=[{"prediction_id": id, "value": 1.5} for id in ids])
    assert (status, said["accepted"], said["refused"]) == (202, 1, 3)
    assert [bool(each["error"]) for each in said["results"]] == [False, True, True, True]
    status, said = await post(client, "feedback", people("app", SCOPE), feedback=[{"prediction_id": id, "verdict": "wrong"} for id in ids])
    assert (status, said["accepted"], said["refused"]) == (202, 1, 3)


async def test_feedback_is_a_persons_last_word(client: Client, people: People, model: str) -> None:
    app, id = people("app", SCOPE), new_id(model)
    said = [
        (await post(client, "feedback", app, prediction_id=id, verdict=verdict, user=user))[1]["accepted"]
        for verdict, user in (("wrong", "u1"), ("wrong", "u1"), ("right", "u1"), ("wrong", "u2"), ("wrong", "u1"))
    ]
    assert said == [1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"prediction_id": "x", "value": 1}, 422, "prediction_id"),
        ({"prediction_id": "{other}", "value": 1}, 404, "prediction_id"),
        ({"prediction_id": "{id}"}, 422, "value"),
        ({"prediction_id": "{id}", "value": None}, 422, "value"),
        ({"prediction_id": "{id}", "value": [1]}, 422, "value"),
        ({"prediction_id": "{id}", "value": 1, "observed_at": "2026-11-01T12:00:00"}, 422, "observed_at"),
        ({"prediction_id": "{id}", "value": 1, "observed_at": "2100-11-01T12:00:00Z"}, 422, "observed_at"),
        ({"prediction_id": "{id}", "value": 1, "source": "campaign/x"}, 422, "source"),
        ({"prediction_id": "{id}", "value": 1, "more": 1}, 422, "more"),
        ({"outcomes": []}, 422, "outcomes"),
        ({"outcomes": [{"prediction_id": "{id}", "value": 1}] * 1_001}, 422, "outcomes"),
    ],
)
async def test_mistakes_are_named(client: Client, people: People, model: str, body: Any, status: int, field: str) -> None:
    if "prediction_id" in body:
        body = {**body, "prediction_id": body["prediction_id"].format(id=new_id(model), other=new_id(model, 9))}
    answered, problem = await post(client, "outcomes", people("app", SCOPE), **body)
    assert answered == status
    assert problem["type"] in ("InvalidInput", "NotFound")
    named = [problem.get("field") or "", *(each["field"] for each in problem.get("errors", []))]
    assert any(field in each for each in named), problem


async def test_not_a_number_and_other_keys_are_refused(client: Client, people: People, model: str) -> None:
    content = b'{"prediction_id": "%s", "value": NaN}' % new_id(model).encode()
    headers = {**people("app", SCOPE), "content-type": "application/json"}
    assert (await client.post("/v1/outcomes", content=content, headers=headers)).status_code == 422
    assert (await post(client, "outcomes", people("eve", "label"), prediction_id=new_id(model), value=1))[0] == 403
