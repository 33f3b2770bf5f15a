"""The Open Inference Protocol: by column, with the versions that may answer, and the same scores."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter

from perdure.messages.rollout import TrafficKind
from perdure.serving.requests import Direct
from tests.serving.conftest import Asking
from tests.serving.world import ROW, Served, trained


@pytest.fixture(scope="session")
def model(served: Served) -> str:
    name = f"oip{uuid4().hex[:8]}"
    served.release(served.version(name, trained(served.folder, 80)))
    return name


def tensors(*rows: dict[str, Any], **changed: Any) -> list[dict[str, Any]]:
    kinds = {"size": "FP64", "age": "INT64", "member": "BOOL", "city": "BYTES", "seen": "BYTES"}
    return [
        {"name": name, "datatype": kind, "shape": [len(rows)], "data": [row[name] for row in rows], **changed.get(name, {})}
        for name, kind in kinds.items()
    ]


async def test_health_and_metadata(client: Asking, model: str) -> None:
    await client.look()
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}
    assert (await client.get("/v2")).json()["name"] == "perdure"
    assert (await client.get(f"/v2/models/{model}/ready")).json() == {"name": model, "ready": True}
    about = (await client.get(f"/v2/models/{model}/versions/1")).json()
    assert (about["name"], about["versions"]) == (model, ["1"])
    assert [(each["name"], each["datatype"]) for each in about["inputs"]] == [(each["name"], each["datatype"]) for each in tensors(ROW)]
    assert [each["name"] for each in about["outputs"]] == ["p_cat", "p_dog", "prediction"]


async def test_the_same_scores_as_by_rows(client: Asking, model: str) -> None:
    await client.look()
    rows = [ROW, {**ROW, "age": None, "size": -2}]
    by_rows = (await client.predict(model, *rows)).json()
    answer = await client.post(f"/v2/models/{model}/infer", json={"id": "x", "inputs": tensors(*rows), "parameters": {"unit": "ada"}})
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == (model, "1", "x")
    outputs = {each["name"]: each["data"] for each in told["outputs"]}
    assert outputs["prediction"] == by_rows["predictions"]
    assert outputs["p_dog"] == [scores["dog"] for scores in by_rows["scores"]]
    assert len(told["parameters"]["prediction_ids"]) == 2
    column = tensors(*rows, size={"shape": [2, 1], "data": [[1.5], [-2]]})
    some = await client.post(f"/v2/models/{model}/versions/1/infer", json={"inputs": column, "outputs": [{"name": "p_dog"}]})
    assert [each["data"] for each in some.json()["outputs"]] == [outputs["p_dog"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "inputs"),
        ({"inputs": tensors(ROW)[1:]}, "inputs"),
        ({"inputs": tensors(ROW, size={"shape": [2]})}, "inputs[0].shape"),
        ({"inputs": tensors(ROW, size={"datatype": "COMPLEX"})}, "inputs[0].datatype"),
        ({"inputs": tensors(ROW, size={"data": "1"})}, "inputs[0].data"),
        ({"inputs": tensors(ROW, size={"data": ["1"]})}, "rows[0].size"),
        ({"inputs": tensors(ROW, age={"name": "size"})}, "inputs[1].name"),
        ({"inputs": tensors(ROW, age={"data": [1, 2], "shape": [2]})}, "inputs"),
        ({"inputs": tensors(ROW), "outputs": [{"name": "p_cow"}]}, "outputs"),
        ({"inputs": tensors(ROW), "outputs": "all"}, "outputs"),
        ({"inputs": tensors(ROW), "parameters": [1]}, "parameters"),
    ],
)
async def test_tensors_that_do_not_fit_are_refused_with_their_place(client: Asking, model: str, body: dict[str, Any], field: str) -> None:
    await client.look()
    answer = await client.post(f"/v2/models/{model}/infer", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


async def test_only_versions_that_may_answer_have_addresses(client: Asking, served: Served) -> None:
    name = f"oip{uuid4().hex[:8]}"
    champion, challenger = (served.version(name, trained(served.folder, seed)) for seed in (81, 82))
    served.release(champion)
    inputs = {"inputs": tensors(ROW)}

    async def statuses() -> list[int]:
        await client.look()
        return [(await client.post(f"/v2/models/{name}/versions/{number}/infer", json=inputs)).status_code for number in (1, 2, 3, "x")]

    assert await statuses() == [200, 404, 404, 404]
    served.traffic(challenger, TrafficKind.SHADOW, 100)
    assert await statuses() == [200, 404, 404, 404]
    served.traffic(challenger, TrafficKind.CANARY, 1)
    assert await statuses() == [200, 200, 404, 404]
    assert (await client.get(f"/v2/models/{name}")).json()["versions"] == ["1", "2"]
    served.release(challenger)
    served.end_traffic(name)
    assert await statuses() == [404, 200, 404, 404]
    assert (await client.get("/v2/models/nobody/ready")).status_code == 404
    asked = [(await client.post(f"/v2/models/{name}/infer?version={number}", json=inputs)).status_code for number in (1, 2)]
    assert asked == [404, 200]


def test_a_direct_route_is_none_for_what_it_would_not_read() -> None:
    async def wants_a_body(model: str, body: dict[str, str]) -> None: ...

    with pytest.raises(TypeError, match="takes more"):
        APIRouter(route_class=Direct).post("/{model}")(wants_a_body)
