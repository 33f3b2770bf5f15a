"""Messages to hooks: verified before they are read, kept once, acted on once, in whatever order they come."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from perdure.config import GatewaySettings
from perdure.gateway.hooks import PROVIDERS, Malformed, Unproven
from perdure.gateway.parts import Parts
from perdure.gateway.rates import Rates
from perdure.metadata.repository.access import ANSWERING
from perdure.metadata.tables import HookProvider
from tests.gateway.world import Senders, answers, payload

LABEL_STUDIO = HookProvider.LABEL_STUDIO
HEADERS = {
    HookProvider.STANDARD: ("webhook-id", "webhook-timestamp", "webhook-signature"),
    HookProvider.LABEL_STUDIO: ("authorization",),
    HookProvider.SLACK: ("x-slack-request-timestamp", "x-slack-signature"),
}
HEADERS[HookProvider.EVENTS], HEADERS[HookProvider.ALERTMANAGER] = HEADERS[HookProvider.STANDARD], HEADERS[LABEL_STUDIO]
CALLED = list(HEADERS)  # providers that are called by HTTP


async def test_a_message_is_acted_on_once(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook = senders.hook(campaign=campaign)
    said = hook.signed(answers({"task": "t0", "value": "pos", "labeler": "ada"}, {"task": "t1", "value": "neg", "labeler": "ada"}))
    first, again = await client.post(hook.path, **said), await client.post(hook.path, **said)
    assert (first.status_code, first.json()["state"]) == (202, "processed"), first.text
    assert again.status_code == 200
    assert again.json()["delivery_id"] == first.json()["delivery_id"] == said["headers"]["webhook-id"]
    assert senders.statuses(campaign) == {"t0": ["valid"], "t1": ["valid"]}
    assert senders.counted(campaign) == {"t0": 1, "t1": 1, "t2": 0, "t3": 0}


async def test_who_proves_nothing_leaves_nothing(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook, other = senders.hook(campaign=campaign), senders.hook(campaign=campaign)
    body = answers({"task": "t0", "value": "pos"})
    good = hook.signed(body)
    changed = {**good, "content": good["content"].replace(b"pos", b"neg")}
    without = {**good, "headers": {k: v for k, v in good["headers"].items() if k != "webhook-signature"}}
    cases = {
        401: [hook.signed(body, secret=other.secret), hook.signed(body, at=time.time() - 301), hook.signed(body, at=time.time() + 301)],
        400: [{**good, "headers": {**good["headers"], **odd}} for odd in ({"webhook-id": "a.b"}, {"webhook-timestamp": "x"})],
        415: [{**good, "headers": {**good["headers"], "content-type": "text/plain"}}],
    }
    cases[401] += [changed, without]
    for status, requests in cases.items():
        for request in requests:
            response = await client.post(hook.path, **request)
            assert response.status_code == status, response.text
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["status"] == status
    for path in ("/v1/hooks/nobody", "/v1/hooks/%00", f"{hook.path}%0A", f"/v1/hooks/{'x' * 101}"):
        assert (await client.post(path, **good)).status_code == 404
    assert senders.rows("select 1 from delivery where hook_id = :id", id=hook.id) == []
    assert senders.statuses(campaign) == {}


async def test_a_secret_is_rotated_and_a_hook_retired(client: httpx.AsyncClient, senders: Senders, campaign: str, app: Any) -> None:
    hook = senders.hook(campaign=campaign)
    old, hook.secret = hook.secret, senders.hook(campaign=campaign).secret
    parts: Parts = app.state.parts
    body = answers({"task": "t0", "value": "pos"})
    assert (await client.post(hook.path, **hook.signed(body))).status_code == 401
    hook.rows.rotate_hook(hook.id, hook.keep(hook.secret), datetime.now(UTC) + timedelta(hours=1))
    parts._hooks.clear()  # seconds later
    assert (await client.post(hook.path, **hook.signed(body, secret=old))).status_code == 202
    assert (await client.post(hook.path, **hook.signed(body))).status_code == 202
    both = hook.signed(body, id="both")
    both["headers"]["webhook-signature"] = f"v1,bm90aGluZw== {both['headers']['webhook-signature']} v1a,other"
    assert (await client.post(hook.path, **both)).status_code == 202
    hook.rows.rotate_hook(hook.id, hook.keep(hook.secret), datetime.now(UTC) - timedelta(seconds=1))
    parts._hooks.clear()
    assert (await client.post(hook.path, **hook.signed(body, secret=old))).status_code == 401
    hook.rows.retire_hook(hook.id)
    parts._hooks.clear()
    assert (await client.post(hook.path, **hook.signed(body))).status_code == 410


@pytest.mark.parametrize("kind", CALLED)
@pytest.mark.parametrize("secret", ["", " \n", "\udcff"])
async def test_a_hook_without_a_secret_takes_nothing(
    client: httpx.AsyncClient, senders: Senders, campaign: str, kind: HookProvider, secret: str
) -> None:
    hook = senders.hook(kind, campaign if kind in ANSWERING else None)
    for file in hook.folder.iterdir():
        file.write_bytes(secret.encode("utf-8", "surrogateescape"))
    response = await client.post(hook.path, headers={"content-type": PROVIDERS[kind].media[0]}, content=b"{}")
    assert (response.status_code, response.json()["field"]) == (503, "hook"), response.text
    assert "secret" in response.json()["detail"]


def test_no_proof_is_no_proof_whatever_the_secret_is() -> None:
    for headers in ({}, {"authorization": "Bearer "}):
        with pytest.raises(Unproven):
            PROVIDERS[LABEL_STUDIO].verify(headers, b"{}", [""], 0.0)


@pytest.mark.parametrize("secret", ["whsec_no base64", "whsec_", "whsec_é"])
async def test_a_secret_that_cannot_sign_is_told_in_the_log(
    client: httpx.AsyncClient, senders: Senders, campaign: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    hook = senders.hook(campaign=campaign)
    request = hook.signed(answers({"task": "t0", "value": "pos"}))
    hook.rows.rotate_hook(hook.id, hook.keep(secret), datetime.now(UTC) + timedelta(hours=1))
    response = await client.post(hook.path, **request)
    assert response.status_code == 503
    assert any(record.message == "a hook takes nothing" and "base64" in record.__dict__["error"] for record in caplog.records)
    assert secret not in caplog.text + response.text


@bounded(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_header_breaks_a_verifier(data: st.DataObject) -> None:
    """Whatever the headers hold, the answer is yes or no."""
    kind = data.draw(st.sampled_from(CALLED))
    latin = st.text(st.characters(max_codepoint=255), max_size=60)
    now = "1790000000"
    odd = st.sampled_from(["v1,", "v1,====", "v1,é", "v1,\udcff", ",,,", "v1 v1", "v0=", "Bearer ", now, "١٢٣", "-1", "1e9", "9" * 40])
    headers = {name: data.draw(st.one_of(latin, odd)) for name in HEADERS[kind] if data.draw(st.booleans())}
    secrets = ["whsec_" + "QUJD" * 11]
    with pytest.raises((Malformed, Unproven)):
        PROVIDERS[kind].verify(headers, data.draw(st.binary(max_size=50)), secrets, float(now))


def bodies() -> st.SearchStrategy[bytes]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    trees = st.recursive(leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4), max_leaves=8)
    named = st.fixed_dictionaries({"action": st.sampled_from(["ANNOTATION_CREATED", "ANNOTATIONS_DELETED"]), "type": st.just("answers")})
    fields = st.sampled_from(["annotation", "task", "project", "annotations", "data", "timestamp"])
    half = st.tuples(named, st.dictionaries(fields, trees)).map(lambda parts: parts[0] | parts[1])
    return st.one_of(st.binary(max_size=60), (trees | half).map(lambda tree: json.dumps(tree).encode()))


@pytest.mark.parametrize("kind", CALLED)
async def test_what_is_signed_is_kept_whatever_it_is(
    client: httpx.AsyncClient, senders: Senders, campaign: str, kind: HookProvider
) -> None:
    hook = senders.hook(kind, campaign if kind in ANSWERING else None)
    by_bearer = kind in (LABEL_STUDIO, HookProvider.ALERTMANAGER)
    sign = hook.by_label_studio if by_bearer else hook.by_slack if kind is HookProvider.SLACK else hook.signed
    drawn: set[bytes] = {
        b"",
        b"[" * 100_000,
        b"{}",
        b"null",
        rb'{"type": "\ud800"}',
        b'{"action": "ANNOTATION_CREATED", "annotation": [], "task": []}',
        b'{"type": ' + b"9" * 5_000 + b"}",
    }

    @bounded(max_examples=40, deadline=None, database=None)
    @given(bodies())
    def draw(body: bytes) -> None:
        drawn.add(body)

    draw()
    for body in drawn:
        response = await client.post(hook.path, **sign(body))
        assert response.status_code in (200, 202), (body, response.text)
        assert response.json()["state"] == "quarantined"
        assert response.json()["error"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00"])
async def test_a_time_that_is_none_elsewhere_is_quarantined(client: httpx.AsyncClient, senders: Senders, campaign: str, at: str) -> None:
    hook = senders.hook(campaign=campaign)
    response = await client.post(hook.path, **hook.signed(answers({"task": "t0", "value": "pos"}) | {"timestamp": at}))
    assert (response.status_code, response.json()["state"]) == (202, "quarantined"), response.text
    assert "timestamp: " in response.json()["error"]


async def test_what_cannot_be_used_waits_for_another_try(client: httpx.AsyncClient, senders: Senders, campaign: str, people: Any) -> None:
    from perdure.labeling.ports import NewTask
    from perdure.metadata.repository import CampaignRows

    hook = senders.hook(campaign=campaign)
    sent = hook.signed(answers({"task": "t0", "value": "pos"}, {"task": "later", "value": "pos"}))
    response = await client.post(hook.path, **sent)
    assert (response.status_code, response.json()["state"]) == (202, "quarantined")
    assert "later: there is no such task" in response.json()["error"]
    assert senders.statuses(campaign) == {}  # not half of it
    assert (await client.post(hook.path, **sent)).json()["state"] == "quarantined"
    admin, path = people("root", "admin"), f"/v1/deliveries/{hook.id}/{response.json()['delivery_id']}:replay"
    assert (await client.post(path, headers=people("ada"))).status_code == 403
    assert (await client.post(path, headers=admin)).json()["attempts"] == 2
    rows = CampaignRows(senders.database)
    rows.put_tasks(rows.named(campaign).id, [NewTask(key="later", payload={})])
    listed = await client.get("/v1/deliveries", params={"state": "quarantined", "limit": 1000}, headers=admin)
    assert response.json()["delivery_id"] in [each["delivery_id"] for each in listed.json()["deliveries"]]
    for attempts in (3, 3):  # the second changes nothing
        done = (await client.post(path, headers=admin)).json()
        assert (done["state"], done["attempts"], done["error"]) == ("processed", attempts, None)
    assert senders.statuses(campaign) == {"later": ["valid"], "t0": ["valid"]}
    assert (await client.post(f"/v1/deliveries/{hook.id}/none:replay", headers=admin)).status_code == 404


# --- Label Studio ------------------------------------------------------------------------------------------------------


async def test_label_studio_answers_changes_skips_and_deletes(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook = senders.hook(LABEL_STUDIO, campaign)
    for name, expected in (
        ("ANNOTATION_CREATED", {"t0": ["valid"]}),
        ("ANNOTATION_UPDATED", {"t0": ["superseded", "valid"]}),
        ("ANNOTATION_CREATED__skipped", {"t0": ["superseded", "valid"], "t1": ["skipped"]}),
        ("ANNOTATIONS_CREATED", {"t0": ["superseded", "valid"], "t1": ["skipped"], "t2": ["valid"], "t3": ["valid"]}),
        ("TASKS_CREATED", {"t0": ["superseded", "valid"], "t1": ["skipped"], "t2": ["valid"], "t3": ["valid"]}),
        ("ANNOTATIONS_DELETED", {"t0": ["deleted"] * 3, "t1": ["skipped"], "t2": ["valid"], "t3": ["valid"]}),
    ):
        for status in (202, 200):
            response = await client.post(hook.path, **hook.by_label_studio(payload(name)))
            assert (response.status_code, response.json()["state"], response.json()["error"]) == (status, "processed", None)
        assert senders.statuses(campaign) == expected, name
    assert senders.rows(
        "select distinct principal from labeler l join annotation a on a.labeler_id = l.id join campaign c on c.id = a.campaign_id"
        " where c.name = :name",
        name=campaign,
    ) == [(f"hook:{hook.id}/1",)]
    kept = b"".join(bytes(body) for (body,) in senders.rows("select body from delivery where hook_id = :id", id=hook.id))
    assert b"label_config" not in kept
    assert b"redacted" not in kept
    assert senders.rows("select 1 from delivery where hook_id = :id and headers ? 'authorization'", id=hook.id) == []


@pytest.mark.parametrize("order", list(itertools.permutations(["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"])))
async def test_a_deletion_deletes_in_any_order(client: httpx.AsyncClient, senders: Senders, campaign: str, order: tuple[str, ...]) -> None:
    hook = senders.hook(LABEL_STUDIO, campaign)
    for name in order:
        response = await client.post(hook.path, **hook.by_label_studio(payload(name)))
        assert (response.status_code, response.json()["state"]) == (202, "processed")
    assert set(senders.statuses(campaign).get("t0", [])) == {"deleted"}
    assert senders.counted(campaign)["t0"] == 0


async def test_an_update_that_comes_first_stays(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook = senders.hook(LABEL_STUDIO, campaign)
    for name in ("ANNOTATION_UPDATED", "ANNOTATION_CREATED"):
        await client.post(hook.path, **hook.by_label_studio(payload(name)))
    assert senders.statuses(campaign) == {"t0": ["superseded", "valid"]}
    assert senders.rows(
        "select value from annotation a join campaign c on c.id = a.campaign_id where c.name = :n and a.status = 'valid'", n=campaign
    ) == [("pos",)]


async def test_label_studio_with_another_secret(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook = senders.hook(LABEL_STUDIO, campaign)
    response = await client.post(hook.path, **hook.by_label_studio(payload("ANNOTATION_CREATED"), secret="other"))
    assert response.status_code == 401
    odd = payload("ANNOTATION_CREATED") | {"action": "SOMETHING_NEW"}
    assert (await client.post(hook.path, **hook.by_label_studio(odd))).json()["state"] == "quarantined"
    ids = itertools.count(100)  # a message is named by its annotation, whatever else is wrong
    for break_it in (
        lambda body: body["task"]["meta"].pop("task_key"),
        lambda body: body["annotation"].update(result=[]),
        lambda body: body["annotation"]["result"][0]["value"].update(choices=["pos", "neg"]),
        lambda body: body["annotation"].update(task=99),
        lambda body: body["annotation"].update(completed_by="\x00"),
        lambda body: body["annotation"].update(id=10**3_999),
        lambda body: body["annotation"].update(id=-1),
        lambda body: body["annotation"].update(completed_by=2**63),
        lambda body: body["annotation"].update(lead_time=10**3_999),
        lambda body: body["annotation"].update(updated_at="0001-01-01T00:00:00+12:00"),
        lambda body: body["annotation"].update(updated_at="9999-12-31T23:59:59-12:00"),
        lambda body: body.update(action="ANNOTATIONS_DELETED", annotations=[{"id": 10**3_999}]),
    ):
        body = payload("ANNOTATION_CREATED")
        body["annotation"]["id"] = next(ids)
        break_it(body)
        response = await client.post(hook.path, **hook.by_label_studio(body))
        assert (response.status_code, response.json()["state"]) == (202, "quarantined"), response.text
    assert senders.statuses(campaign) == {}


async def test_bodies_have_a_limit(client: httpx.AsyncClient, senders: Senders, campaign: str) -> None:
    hook = senders.hook(LABEL_STUDIO, campaign)
    body = payload("ANNOTATION_CREATED")
    body["task"]["data"]["text"] = "x" * (7 << 20)
    assert (await client.post(hook.path, **hook.by_label_studio(body))).status_code == 202
    large = hook.by_label_studio(b" " * ((8 << 20) + 1))
    assert (await client.post(hook.path, **large)).status_code == 413

    async def unannounced() -> Any:
        for _ in range(9):
            yield b" " * (1 << 20)

    response = await client.post(hook.path, headers=large["headers"], content=unannounced())
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


async def test_only_an_import_is_as_long_as_it_likes(client: httpx.AsyncClient) -> None:
    """Not what is merely called so: of a form, all is read before anybody asks who sent it."""

    async def long() -> Any:
        for _ in range(9):
            yield b"a=" + b"a" * 1_000_000 + b"&"

    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = await client.post("/approvals/tasks:import", content=long(), headers=headers)
    assert response.status_code == 413


def test_what_was_saved_may_be_used_at_once() -> None:
    now = 0.0
    rates = Rates(0.5, lambda: now)
    assert [rates.wait("a") for _ in range(6)] == [0, 0, 0, 0, 0, 2]
    assert rates.wait("b") == 0
    now = 1.0
    assert rates.wait("a") == 1
    now = 2.0
    assert [rates.wait("a") for _ in range(2)] == [0, 2]
    now = 1_000.0
    assert [rates.wait("a") for _ in range(6)] == [0, 0, 0, 0, 0, 2]


async def test_a_hook_that_sends_too_much_is_told_when_to_send_again(
    client: httpx.AsyncClient, app: FastAPI, senders: Senders, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = app.state.parts.settings.model_copy(update={"gateway": GatewaySettings(hook_rate=0.1)})
    monkeypatch.setattr(app.state.parts, "settings", limited)
    monkeypatch.setattr(app.state.parts, "rates", Rates(0.1))
    hook, other = senders.hook(campaign=campaign), senders.hook(campaign=campaign)
    forged = {**hook.signed(answers({"task": "t0", "value": "pos"}))}
    forged["headers"] = {**forged["headers"], "webhook-signature": "v1,x"}
    assert (await client.post(hook.path, **forged)).status_code == 401  # takes nothing of what the hook has
    sent = [hook.signed(answers({"task": f"t{n}", "value": "pos", "labeler": "ada"})) for n in range(2)]
    assert [(await client.post(hook.path, **each)).status_code for each in sent] == [202, 429]
    refused = await client.post(hook.path, **sent[1])
    assert (refused.json()["type"], 1 <= int(refused.headers["retry-after"]) <= 10) == ("RateLimited", True)
    assert (await client.post(other.path, **other.signed(answers({"task": "t1", "value": "pos"})))).status_code == 202
    assert senders.counted(campaign) == {"t0": 1, "t1": 1, "t2": 0, "t3": 0}
