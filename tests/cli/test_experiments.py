"""`perdure experiments`: list and show."""

from __future__ import annotations

import pytest

from perdure.cli.exits import Exit
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.cli.conftest import Call, document
from tests.metadata.test_experiments import AT, BETTER, FIGURES, GOING, Comparing
from tests.metadata.world import World
from tests.servers import Stack


def test_an_experiment_is_told_with_each_look(stack: Stack, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = stack.isolated()
    upgrade(settings)
    for name, value in stack.environment(settings).items():
        monkeypatch.setenv(name, value)
    assert "no experiments" in call("experiments", "list").stderr
    with Database.open(settings) as database:
        world = World(database)
        one = Comparing(world, world.released("1"))
        one.decide(1, GOING)
        [row] = document(call("experiments", "list", "--json"))
        assert (row["model"], row["champion"], row["challenger"], row["state"]) == ("moderation", 1, 2, "running")
        assert (row["reason"], len(row["looks"])) == ("not decided yet", 1)
        one.decide(2, BETTER)

    listed = call("experiments", "list", "moderation").stdout
    assert "challenger" in listed
    assert "the candidate is better" in listed
    assert "no experiments" in call("experiments", "list", "another").stderr

    shown = call("experiments", "show", "moderation").stdout
    assert "moderation: version 2 against 1" in shown
    assert "+0.1 to +0.3" in shown
    found = document(call("experiments", "show", "moderation@2", "--json"))
    assert found == document(call("experiments", "show", str(one.id), "--json"))
    assert found["run"] == "run/moderation/new"
    assert [(look["number"], look["state"], look["at"]) for look in found["looks"]] == [
        (1, "running", AT.isoformat()),
        (2, "challenger", AT.isoformat()),
    ]
    assert found["looks"][1]["challenger"] == FIGURES["challenger"]
    assert found["looks"][1]["gain"] == {"difference": 0.2, "low": 0.1, "high": 0.3}
    for nobody in ("another", "moderation@1", "moderation@x", "7d1f8c1e-0000-4000-8000-000000000000"):
        assert call("experiments", "show", nobody).exit_code == Exit.NOT_FOUND
