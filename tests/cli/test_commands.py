"""Commands that need no server: what they print, where, and how they end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.cli import people
from perdure.cli.exits import Exit
from tests.cli.conftest import Call, document

NOWHERE = {"PERDURE_POSTGRES__URL": "postgresql+psycopg://perdure@127.0.0.1:1/perdure"}
SPEC = "name: m\ndata: {source: {uri: x.csv, format: csv}, target: y}\n"


def test_start_is_quick(tmp_path: Path) -> None:
    """No library that takes long to import is imported for a help text, a misspelt command or the version."""
    heavy = ("temporalio", "sqlalchemy", "pydantic", "boto3", "polars", "numpy", "yaml", "httpx", "asyncio")
    program = (
        "import sys\n"
        "from perdure.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.strip() == "[]"
    assert "Local stack" in done.stdout


def test_every_command_has_help_and_json(call: Call) -> None:
    commands = re.findall(r"^## perdure (.+)$", (Path(__file__).parents[2] / "docs" / "cli.md").read_text(), flags=re.MULTILINE)
    assert len(commands) > 20
    for command in commands:
        shown = call(*command.split(), "--help", env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        assert "--json" in shown.stdout or command in ("gateway", "predictions export"), command  # for ever; nothing but JSON


def test_version(call: Call) -> None:
    assert re.fullmatch(r"perdure \d+\.\d+\.\d+\n", call("--version").stdout)


def test_a_misspelt_command_ends_with_usage(call: Call) -> None:
    result = call("rnu")
    assert result.exit_code == Exit.USAGE
    assert "No such command" in result.stderr
    assert result.stdout == ""


def test_valid_specification(call: Call, tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(SPEC)
    result = call("validate", tmp_path)
    assert result.exit_code == 0
    assert f"file://{tmp_path}/x.csv" in result.stdout
    assert document(call("validate", tmp_path, "--json")) == {"valid": True, "mistakes": []}


def test_mistakes_on_stderr_and_as_json(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(SPEC + "patiense: 1m\ntrain: {trainer: xgbost}\n")
    told = call("validate", path)
    assert (told.exit_code, told.stdout) == (Exit.USAGE, "")
    assert f"{path}:3: patiense: unknown field; did you mean patience?" in told.stderr
    assert "docs/errors.md#invalidinput" in told.stderr
    machine = call("validate", path, "--json")
    assert machine.exit_code == Exit.USAGE
    assert [(m["line"], m["path"]) for m in document(machine)["mistakes"]] == [(3, "patiense"), (4, "train.trainer")]


def test_errors_as_one_json_document(call: Call, tmp_path: Path) -> None:
    result = call("apply", tmp_path / "nothing.yaml", "--json")
    assert result.exit_code == Exit.NOT_FOUND
    told = document(result)
    assert told["exit_code"] == Exit.NOT_FOUND
    assert set(told["error"]) == {"type", "message", "field", "remedy"}
    assert told["error"]["type"] == "NotFound"
    assert "there is no file" in result.stderr


@pytest.mark.parametrize("command", ["runs", "show x", "pause x", "models", "predict m -", "lineage m", "run m", "watch x", "db check"])
def test_nothing_answers(call: Call, command: str) -> None:
    result = call(*command.split(), env=NOWHERE)
    assert result.exit_code == Exit.UNREACHABLE
    assert "StoreUnavailable" in result.stderr
    assert "remedy: " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "told"), [("{", "no JSON"), ('{"s3": {"buckt": "x"}}', "s3.buckt"), ('{"worker": {"threads": "many"}}', "worker.threads")]
)
def test_damaged_settings_are_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))
    (tmp_path / "settings.json").write_text(text)
    result = call("runs")
    assert result.exit_code == Exit.USAGE
    assert told in result.stderr
    assert str(tmp_path / "settings.json") in result.stderr


def test_a_defect_says_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("unforeseen")

    monkeypatch.setattr("perdure.spec.pipeline.json_schema", fail)
    result = call("schema", "--json")
    assert result.exit_code == Exit.DEFECT
    assert document(result)["error"]["type"] == "KeyError"
    assert "Traceback" in result.stderr


def test_schema_is_the_exported_one(call: Call) -> None:
    assert document(call("schema")) == json.loads((Path(__file__).parents[2] / "docs" / "pipeline.schema.json").read_text())


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["run", "m", "--param", "rounds"], "'rounds' is no parameter"),
        (["run", "m", "--param", "a=1", "--param", "a=2"], "a is given twice"),
        (["run", "m", "--key", "a b"], "'a b' cannot name a run"),
        (["run", "m", "--from", "trian"], "there is no step 'trian'"),
        (["run", "./m.yaml", "--version", "ab"], "a file has no versions"),
        (["predict", "m@x", "-"], "'m@x' is no model"),
        (["lineage", "m", "--at", "yesterday"], "'yesterday' is no time"),
        (["lineage", "m@1", "--at", "2026-01-01"], "a version and a time are two questions"),
    ],
)
def test_wrong_arguments_are_told_before_any_server_is_asked(call: Call, command: list[str], told: str) -> None:
    result = call(*command, env=NOWHERE)
    assert result.exit_code == Exit.USAGE, result.stderr
    assert told in result.stderr


def test_status_of_nothing(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))
    result = call("status")
    assert (result.exit_code, result.stdout) == (Exit.FAILED, "")
    assert "perdure up" in result.stderr
    assert document(call("status", "--json")) == []
    assert call("down").exit_code == 0


def test_log_of_nothing_names_what_there_is(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "s3.log").write_text("".join(f"line {i}\n" for i in range(9)))
    assert call("logs", "s3", "-n", 2).stdout == "line 7\nline 8\n"
    assert document(call("logs", "s3", "-n", 1, "--json")) == ["line 8"]
    result = call("logs", "s4", env=NOWHERE)
    assert result.exit_code == Exit.NOT_FOUND
    assert "services that have a log: s3" in result.stderr


def test_home_is_chosen_by_option(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_HOME", "elsewhere")  # put back at the end: the option sets it
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "s3.log").write_text("here\n")
    assert call("--home", tmp_path, "logs", "s3").stdout == "here\n"


def test_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERDURE_ACTOR", raising=False)
    monkeypatch.setenv("USER", "ada")
    assert people.person(None) == "ada"
    monkeypatch.setenv("PERDURE_ACTOR", "ci")
    assert people.person(None) == "ci"
    assert people.person("bob") == "bob"
    monkeypatch.delenv("PERDURE_ACTOR")
    monkeypatch.delenv("USER")
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("no such uid")))
    assert people.person(None).startswith("uid ")


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    """`perdure schema | head -1`."""
    done = subprocess.run(
        f"{sys.executable} -m perdure.cli.main schema | head -1", shell=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""
