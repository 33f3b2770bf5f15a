from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic import command

from perdure.config import Settings, resolve_secret
from perdure.errors import AccessDenied, InvalidInput, SchemaTooNew, SchemaTooOld, StoreUnavailable
from perdure.metadata.upgrade import check, config, head, upgrade
from tests.metadata.conftest import Fresh
from tests.metadata.test_schema import engine_of
from tests.servers import Stack


def connect(settings: Settings) -> psycopg.Connection[tuple[str]]:
    address = settings.postgres.url.replace("postgresql+psycopg://", "postgresql://")
    return psycopg.connect(address, password=resolve_secret(settings.postgres.password or ""), autocommit=True)


def with_postgres(settings: Settings, **changed: str | None) -> Settings:
    return settings.model_copy(update={"postgres": settings.postgres.model_copy(update=changed)})


def test_an_empty_server_becomes_usable(fresh: Fresh) -> None:
    settings = fresh()
    with pytest.raises(SchemaTooOld, match="perdure db upgrade"):
        check(settings)
    first, second = upgrade(settings), upgrade(settings)
    assert (first.before, first.after, first.created) == (None, head(), True)
    assert (second.before, second.after, second.created) == (head(), head(), False)
    assert check(settings) == head()


def test_an_empty_database_is_told_from_a_missing_one(stack: Stack) -> None:
    with pytest.raises(SchemaTooOld, match="empty"):
        check(stack.isolated())


def test_eight_upgrades_at_once(fresh: Fresh) -> None:
    settings = fresh()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: upgrade(settings), range(8)))
    assert sorted(str(outcome.before) for outcome in outcomes) == sorted(["None"] + [head()] * 7)  # one did it, seven found it done
    assert sum(outcome.created for outcome in outcomes) == 1
    assert check(settings) == head()


def test_an_upgrade_that_was_killed_blocks_nobody(stack: Stack) -> None:
    """The lock belongs to the session: it goes with it, and what the dead one had done is whole or nothing."""
    settings = stack.isolated()
    program = f"""
import os
from alembic import command
from perdure.config import Settings
from perdure.metadata.upgrade import upgrade
step = command.upgrade
command.upgrade = lambda config, _: (step(config, "4c1e0a7b9d21"), os.kill(os.getpid(), {int(signal.SIGKILL)}))
upgrade(Settings())
"""
    killed = subprocess.run([sys.executable, "-c", program], env=os.environ | stack.environment(settings))
    assert killed.returncode == -signal.SIGKILL
    assert upgrade(settings).before == "4c1e0a7b9d21"


def test_a_newer_schema_is_refused(stack: Stack) -> None:
    settings = stack.isolated()
    upgrade(settings)
    with connect(settings) as connection:
        connection.execute("update alembic_version set version_num = 'f00dfeed0001'")
    for refused in (upgrade, check):
        with pytest.raises(SchemaTooNew, match="f00dfeed0001") as caught:
            refused(settings)
        assert caught.value.remedy is not None


def test_an_older_schema_is_told_and_upgraded(stack: Stack) -> None:
    settings = stack.isolated()
    upgrade(settings)
    with engine_of(settings).connect() as connection:
        command.downgrade(config(connection), "4c1e0a7b9d21")
    with pytest.raises(SchemaTooOld, match="4c1e0a7b9d21"):
        check(settings)
    assert upgrade(settings).before == "4c1e0a7b9d21"
    assert check(settings) == head()


def test_refused_and_unreachable_servers(stack: Stack, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    for refused in (upgrade, check):
        with pytest.raises(AccessDenied, match="password"):
            refused(with_postgres(stack.settings, password=f"file:{wrong}"))
        with pytest.raises(StoreUnavailable):
            refused(with_postgres(stack.settings, url="postgresql+psycopg://perdure@127.0.0.1:1/perdure"))
        with pytest.raises(InvalidInput, match=r"postgres\.url"):
            refused(with_postgres(stack.settings, url="sqlite:///perdure.db"))


def test_a_user_who_may_not_create_databases_is_told_what_to_ask_for(stack: Stack, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with connect(stack.settings) as connection:
        connection.execute("drop role if exists guest")
        connection.execute("create role guest login password 'secret'")
    server = stack.settings.postgres.url.rpartition("/")[0].replace("//perdure@", "//guest@")
    with pytest.raises(AccessDenied, match="CREATE DATABASE mine OWNER guest"):
        upgrade(with_postgres(stack.settings, url=f"{server}/mine", password=f"file:{secret}"))
