"""`perdure labelers`: list, block, unblock."""

from __future__ import annotations

import pytest

from perdure.cli.exits import Exit
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.cli.conftest import Call, document
from tests.metadata.test_labeling import Campaign, said
from tests.servers import Stack


def test_a_labeler_is_blocked_and_unblocked_by_commands(stack: Stack, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stack.isolated()
    upgrade(settings)
    for name, value in stack.environment(settings).items():
        monkeypatch.setenv(name, value)
    assert "no labelers" in call("labelers", "list").stderr
    with Database.open(settings) as database:
        campaign = Campaign(database)
        campaign.answer(said("t0", by="eve"), said("t1", by="ada"))

    done = call("labelers", "block", "eve", "--reason", "spam", "--take-back", "--actor", "ann", "--json")
    assert document(done) == {"labeler": "eve", "blocked": True, "changed": True}
    assert "blocked already" in call("labelers", "block", "eve", "-m", "spam").stderr
    found = document(call("labelers", "list", "--json"))
    assert [(row["name"], row["status"], row["answers"], row["right"], row["seen"], row["accuracy"]) for row in found] == [
        ("eve", "blocked", 1, 0, 0, None),
        ("ada", "active", 1, 0, 0, None),
    ]
    assert "ada" not in call("labelers", "list", "--status", "blocked").stdout
    assert call("labelers", "list", "--status", "angry").exit_code == Exit.USAGE

    assert call("labelers", "unblock", "eve").exit_code == Exit.USAGE  # says no reason
    assert "eve is unblocked" in call("labelers", "unblock", "eve", "-m", "a mistake").stderr
    again = call("labelers", "unblock", "eve", "-m", "a mistake", "--json")
    assert document(again) == {"labeler": "eve", "blocked": False, "changed": False}
    assert call("labelers", "unblock", "nobody", "-m", "?").exit_code == Exit.NOT_FOUND
