"""Keys, hooks and deliveries by the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app as commands
from perdure.config import Settings
from perdure.metadata.repository import AccessRows
from tests.gateway.world import Senders, answers, payload
from tests.servers import Stack


@pytest.fixture
def call(stack: Stack, migrated: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in stack.environment(migrated).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))

    def run(*arguments: str, ok: bool = True) -> Any:
        result: Result = CliRunner().invoke(commands, [*arguments, "--json"])
        assert (result.exit_code == 0) is ok, result.output
        return json.loads(result.stdout)

    return run


def test_keys(call: Any, senders: Senders) -> None:
    made = call("keys", "create", "ada", "--scope", "label", "--scope", "campaign:read", "--days", "1")
    assert made["scopes"] == ["campaign:read", "label"]
    found = AccessRows(senders.database).keys()[0]
    assert (str(found.id), found.principal) == (made["id"], "ada")
    assert made["key"] not in json.dumps(call("keys", "list"))
    assert call("keys", "revoke", made["id"])["revoked_at"]
    assert call("keys", "create", "x", "--scope", "everything", ok=False)["exit_code"] == 2
    assert call("keys", "create", "a/b", "--scope", "label", ok=False)["error"]["field"] == "principal"
    assert call("keys", "create", "a\n", "--scope", "label", ok=False)["error"]["field"] == "principal"
    assert call("keys", "revoke", "00000000-0000-0000-0000-000000000000", ok=False)["exit_code"] == 3


def test_login(call: Any, senders: Senders, monkeypatch: pytest.MonkeyPatch) -> None:
    call("keys", "login", "nobody.yet", ok=False)
    made = call("keys", "create", "nobody.yet", "--scope", "label")
    link = call("keys", "login", "nobody.yet", "--hours", "2")
    assert (link["key"], link["scopes"]) == (made["id"], ["label"])
    assert link["url"].startswith("http://127.0.0.1:8400/login?link=")
    monkeypatch.setenv("PERDURE_GATEWAY__URL", "https://labels.example/")
    other = call("keys", "login", "nobody.yet", "--key", made["id"])
    assert other["url"].startswith("https://labels.example/login?link=")
    call("keys", "revoke", made["id"])
    call("keys", "login", "nobody.yet", ok=False)


async def test_hooks_and_deliveries(call: Any, senders: Senders, campaign: str, client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = call("hooks", "create", f"ls-{campaign}", "--provider", "labelstudio", "--campaign", campaign)
    (kept,) = (tmp_path / "secrets" / "hooks").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_text() == made["secret"]
    assert made["secrets"] == [{"ref": f"file:{kept}", "until": None}]
    assert call("hooks", "create", f"ls-{campaign}", "--provider", "labelstudio", "--campaign", campaign, ok=False)["exit_code"] == 5
    assert len(list(kept.parent.iterdir())) == 1
    assert call("hooks", "create", "s", "--provider", "slack", ok=False)["error"]["field"] == "--secret"
    unfit = tmp_path / "unfit"
    unfit.write_text("no base64")
    own = ("--campaign", campaign, "--secret", f"file:{unfit}")
    assert call("hooks", "create", "own\n", "--provider", "labelstudio", *own, ok=False)["error"]["field"] == "hook"
    assert call("hooks", "create", "own", *own, ok=False)["error"]["field"] == "--secret"
    unfit.write_text("")
    assert call("hooks", "rotate", made["id"], "--secret", f"file:{unfit}", ok=False)["error"]["field"] == "--secret"
    headers = {"Authorization": f"Bearer {made['secret']}"}
    odd = {**payload("ANNOTATION_CREATED"), "action": "NEW"}
    sent = (await client.post(f"/v1/hooks/{made['id']}", json=odd, headers=headers)).json()
    listed = call("deliveries", "list", "--state", "quarantined")
    assert sent["delivery_id"] in [each["key"] for each in listed]
    assert call("deliveries", "replay", made["id"], sent["delivery_id"], ok=False)["attempts"] == 2
    assert call("deliveries", "replay", made["id"], "none", ok=False)["exit_code"] == 3
    rotated = call("hooks", "rotate", made["id"], "--hours", "2")
    assert [bool(each["until"]) for each in rotated["secrets"]] == [True, False]
    assert rotated["secret"] != made["secret"]
    assert call("hooks", "retire", made["id"])["retired_at"]
    assert made["id"] in [each["id"] for each in call("hooks", "list")]


def test_hooks_for_events(call: Any) -> None:
    """They answer no campaign; one that signs gets a secret to sign with."""
    for provider, prefix in (("events", "whsec_"), ("alertmanager", "")):
        made = call("hooks", "create", f"for-{provider}", "--provider", provider)
        assert (made["campaign"], made["secret"].startswith(prefix)) == (None, True)
        assert call("hooks", "create", f"x-{provider}", "--provider", provider, "--campaign", "any", ok=False)["exit_code"] != 0
    assert call("hooks", "create", "x", "--provider", "signal", ok=False)["error"]["field"] == "provider"
    assert call("hooks", "create", "x", ok=False)["error"]["field"] == "campaign"


async def test_a_hook_of_our_own_convention(call: Any, campaign: str, client: httpx.AsyncClient, senders: Senders) -> None:
    from perdure.gateway.hooks import standard

    made = call("hooks", "create", f"own-{campaign}", "--campaign", campaign)
    body, at = json.dumps(answers({"task": "t0", "value": "pos"})).encode(), "1790000000"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.gateway.routes.hooks.time.time", lambda: float(at))
        signature = standard.sign(made["secret"], "m1", at, body)
        headers = {"webhook-id": "m1", "webhook-timestamp": at, "webhook-signature": signature, "content-type": "application/json"}
        response = await client.post(f"/v1/hooks/{made['id']}", content=body, headers=headers)
    assert (response.status_code, response.json()["state"]) == (202, "processed")
    assert senders.statuses(campaign) == {"t0": ["valid"]}
