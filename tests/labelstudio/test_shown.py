"""What `perdure campaigns show` tells of Label Studio."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from perdure.cli.main import app
from perdure.config import Settings
from perdure.errors import LabelStudioUnavailable
from tests.labelstudio.conftest import Place
from tests.servers import Stack


def test_how_a_campaign_stands_there(place: Place, stack: Stack, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.environment(settings).items():
        monkeypatch.setenv(name, value)

    def show(*more: str) -> str:
        result = CliRunner().invoke(app, ["campaigns", "show", place.name, *more], terminal_width=1_000)
        assert result.exit_code == 0, result.output
        return " ".join(result.stdout.split())

    place.open()
    assert "Label Studio" not in show()
    assert json.loads(show("--json"))["labelstudio"] is None
    place.add("empty", payload={})
    place.push()
    [project] = place.fake.projects
    assert f"project {project} at {place.settings.url}, 3 tasks, 1 cannot be shown there, asked" in show()
    place.fake.down = True
    with pytest.raises(LabelStudioUnavailable):
        place.reconcile()
    assert "does not answer" in show()
    told = json.loads(show("--json"))["labelstudio"]
    assert (told["project"], told["sent"], told["refused"], told["hook"]) == (project, 3, 1, f"ls-{place.id.hex}")
