"""The gateway as a process: killed between COMMIT and answer, and asked everything that its description allows."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounded
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis import checks as c

from perdure.config import Settings
from perdure.messages.labeling import CampaignCommand
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows
from tests.gateway.serving import Process, serving
from tests.gateway.world import People, Senders, answers
from tests.servers import Stack

EXAMPLES = 4  # a route
CHECKS = [
    c.not_a_server_error,
    c.status_code_conformance,
    c.content_type_conformance,
    c.response_schema_conformance,
    c.ignored_auth,
]
DIES = """
import os, signal
from perdure.metadata.repository import AccessRows, CampaignRows, DeliveryRows, LabelRows
from perdure.config import Settings

def last_words(rows, name):
    work = getattr(rows, name)
    def killed(self, *arguments):
        work(self, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(rows, name, killed)

{words}
from perdure.gateway.__main__ import main
main(Settings())
"""


@pytest.fixture(scope="module")
def process(stack: Stack, migrated: Settings) -> Iterator[Process]:
    with serving(stack, migrated) as started:
        yield started


def test_what_was_committed_is_a_duplicate_after_kill_9(
    stack: Stack, migrated: Settings, process: Process, people: People, senders: Senders, campaign: str
) -> None:
    hook = senders.hook(campaign=campaign)
    lease = httpx.post(f"{process.url}/v1/campaigns/{campaign}/lease", json={"max": 1}, headers=people("ada")).json()["leases"][0]
    submit = {"json": {"lease_token": lease["lease_token"], "value": "pos"}, "headers": people("ada")}
    path = f"/v1/assignments/{lease['assignment_id']}/submit"
    sent = hook.signed(answers({"task": "t3", "value": "pos", "labeler": "bob"}))
    for where, request in ((path, submit), (hook.path, sent)):
        with serving(stack, migrated, DIES.format(words='last_words(LabelRows, "accept"); last_words(DeliveryRows, "receive")')) as dying:
            with pytest.raises(httpx.TransportError):
                httpx.post(dying.url + where, **request)
            assert dying.wait() == -signal.SIGKILL
        again = httpx.post(process.url + where, **request)
        assert again.status_code == 200
    assert senders.counted(campaign)[lease["task"]] == 1 + (lease["task"] == "t3")
    assert sum(senders.counted(campaign).values()) == 2


@pytest.mark.parametrize(("words", "done"), [('last_words(CampaignRows, "command")', False), ('last_words(AccessRows, "once")', True)])
def test_a_command_and_its_answer_are_one(
    words: str, done: bool, stack: Stack, migrated: Settings, process: Process, people: People, database: Database, campaign: str
) -> None:
    """Killed after the command's rows were written: nothing is left. Killed after the commit: it is answered as it would have been."""
    rows, headers = CampaignRows(database), {**people("owner"), "Idempotency-Key": f"k-{campaign}"}
    request: dict[str, Any] = {"json": {"reason": "lunch", "expected_version": 1}, "headers": headers}
    with serving(stack, migrated, DIES.format(words=words)) as dying:
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{dying.url}/v1/campaigns/{campaign}/pause", **request)
        assert dying.wait() == -signal.SIGKILL
    assert rows.named(campaign).version == 1 + done
    rows.command(rows.named(campaign).id, "extend", "since", CampaignCommand(deadline=datetime.now(UTC) + timedelta(days=9)))
    path = f"{process.url}/v1/campaigns/{campaign}/pause"
    again = [httpx.post(path, **request) for _ in range(2)]
    if done:  # as the campaign was then
        assert [(each.status_code, each.json()["version"]) for each in again] == [(200, 2)] * 2
        assert [each.headers.get("Idempotency-Replayed") for each in again] == ["true"] * 2
    else:  # made for a version that has passed: neither is it done, nor is a refusal kept
        assert [(each.status_code, each.json()["field"]) for each in again] == [(409, "expected_version")] * 2
    other = httpx.post(path, json={"reason": "tea"}, headers=headers)
    assert other.status_code == (422 if done else 200)


def test_two_processes_say_the_same_of_a_lease(
    stack: Stack, migrated: Settings, process: Process, people: People, senders: Senders, campaign: str, database: Database
) -> None:
    """Leased by one, given back or answered by the other, decided, closed: each tells what the rows say now."""
    with serving(stack, migrated) as other:
        ada = people("ada")
        found = httpx.post(f"{process.url}/v1/campaigns/{campaign}/lease", json={"max": 4}, headers=ada).json()["leases"]
        leases = sorted(found, key=lambda lease: str(lease["task"]))

        def send(where: Process, number: int, what: str = "submit", **headers: str) -> httpx.Response:
            body: dict[str, str] = {"lease_token": leases[number]["lease_token"]}
            body |= {"value": "pos"} if what == "submit" else {}
            path = f"{where.url}/v1/assignments/{leases[number]['assignment_id']}/{what}"
            return httpx.post(path, json=body, headers={**ada, **headers})

        assert send(other, 0, "release").status_code == 204
        assert [send(each, 0).status_code for each in (process, other)] == [409, 409]
        assert send(other, 1).status_code == 201
        assert [(send(each, 1).status_code, send(each, 1).json()["duplicate"]) for each in (process, other)] == [(200, True)] * 2
        rows = CampaignRows(database)
        for who in ("bob", "eve"):
            said = {"answers": [{"task": leases[2]["task"], "value": "neg", "key": who}]}
            assert httpx.post(f"{other.url}/v1/campaigns/{campaign}/answers", json=said, headers=people(who)).status_code == 200
        assert rows.tick(rows.named(campaign).id).decided == 1
        late = [send(each, 2, **{"Idempotency-Key": f"late-{n}"}) for n, each in enumerate((process, other))]
        assert [(each.status_code, each.json()["status"]) for each in late] == [(201, "late")] * 2
        rows.close(rows.named(campaign).id, "enough")
        gone = [send(each, 3, **{"Idempotency-Key": f"gone-{n}"}) for n, each in enumerate((process, other))]
        assert [each.status_code for each in gone] == [410, 410]
    assert senders.statuses(campaign)["t3"] == ["late", "late"]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nothing_that_the_description_allows_or_forbids_breaks_it(
    process: Process, people: People, campaign: str, mode: GenerationMode
) -> None:
    """Schemathesis: every status and every body as described, no 500, and no way round the keys."""
    schema = schemathesis.openapi.from_url(f"{process.url}/openapi.json")
    headers, asked = people("fuzz", "admin"), 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @bounded(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            if "campaign" in (case.path_parameters or {}):
                case.path_parameters["campaign"] = campaign
            case.call_and_validate(headers=headers, checks=CHECKS)
            asked += 1

        with contextlib.suppress(Unsatisfiable):  # nothing that could be wrong with it
            ask()
    assert asked > 15 * EXAMPLES / 2
