"""Real servers for tests, started once per session under the project's own supervisor, in folders that vanish with pytest's temporary ones.

The servers' binaries are those that `make setup` put into the checkout's data folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from perdure.config import Settings, find_home
from perdure.local import ports
from perdure.local import stack as local
from tests.servers import Stack, beside

Homes = Callable[[], Path]
SERVERS = find_home() / "bin"  # of the developer, before the variables below are removed
FOREIGN = ("PERDURE_", "TEMPORAL_", "AWS_", "RAY_", "MLFLOW_")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """With `-n`, a folder's tests run in one process, in their order: they share servers."""
    config.option.loadscopereorder = False
    return Folders(config, log)


class Folders(LoadScopeScheduling):
    """The unit of work is a folder; of the long tests it is a file."""

    def _split_scope(self, nodeid: str) -> str:
        _, folder, *rest = nodeid.partition("::")[0].split("/")
        return "/".join([folder, *rest]) if self.config.option.markexpr == "long" else folder


LONGEST = ("e2e", "flood", "jobs", "local", "cli", "docs", "workflows", "gateway")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest folders first, so that no process is left with one of them at the end."""
    folders = [item.path.relative_to(Path(__file__).parent).parts[0] for item in items]
    ranks = {id(item): LONGEST.index(folder) if folder in LONGEST else len(LONGEST) for item, folder in zip(items, folders, strict=True)}
    items.sort(key=lambda item: ranks[id(item)])


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the developer's stack or credentials: foreign variables are removed, the data folder is an empty one."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN):
                patch.delenv(name)
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # many processes start here, and each would compile all it imports
        patch.setenv("PERDURE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """Makes data folders that find the servers of the checkout and leave well-known ports to the developer's stack."""

    def make() -> Path:
        home = tmp_path_factory.mktemp("perdure")
        (home / "bin").symlink_to(SERVERS)
        (home / "ports.json").write_text(json.dumps({name: ports.spare() for name in ports.WELL_KNOWN}))
        return home

    return make


@pytest.fixture(scope="session")
def stack(new_home: Homes) -> Iterator[Stack]:
    """Postgres, S3 and Temporal."""
    home = new_home()
    local.up(home, only={"postgres", "s3", "temporal"}, tied=True)
    yield Stack(home, Settings(home=home))
    local.down(home)


@pytest.fixture(scope="session")
def ray_stack(stack: Stack, new_home: Homes) -> Iterator[Stack]:
    """The same with a Ray head, started when first asked for."""
    with beside(stack, new_home(), "ray") as added:
        yield added
