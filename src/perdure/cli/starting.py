"""A run's beginning: which pipeline, which parameters, which key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.errors import Conflict, InvalidInput
from perdure.messages.inference import BatchRequest
from perdure.messages.pipeline import RunRequest, StepKind
from perdure.spec.yamlfile import parse

if TYPE_CHECKING:
    from perdure.config import Settings
    from perdure.metadata.database import Database
    from perdure.ports import PipelineVersion

QUEUE = "perdure"
START = timedelta(seconds=10)
KEY = "letters, digits, and . _ - : only, at most 200 of them"


def is_file(name: str) -> bool:
    """Whether *name* means a specification on disk, not the name of a pipeline."""
    return "/" in name or name == "." or name.endswith((".yaml", ".yml", ".json"))


def version_of(name: str, version: str | None, database: Database, settings: Settings, actor: str) -> PipelineVersion:
    """The pipeline version that *name* means; a file is applied first. Raises NotFound, InvalidInput."""
    from perdure import packaging
    from perdure.cli.schedules import sync
    from perdure.metadata.repository import RunRows

    if not is_file(name):
        return RunRows(database).pipeline(name, version)
    if version is not None:
        raise InvalidInput("a file has no versions", field="version", remedy="name an applied pipeline, or leave --version out")
    found = packaging.apply(Path(name), settings, actor=actor)
    sync(settings, found)
    return found


def parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """``["rounds=200", "eta=1e-1"]`` as values, read as in a specification. Raises InvalidInput."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name.strip():
            raise InvalidInput(f"{pair!r} is no parameter", field="--param", remedy="write --param name=value, such as --param rounds=200")
        if name in found:
            raise InvalidInput(f"{name} is given twice", field="--param", remedy="give it once")
        found[name.strip()] = parse(text, f"--param {name}").value
    return found


def new_key(now: datetime | None = None) -> str:
    """A key that sorts by time and that nobody else makes at the same moment."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def workflow_id(pipeline: str, key: str) -> str:
    """``run/{pipeline}/{key}``. Raises InvalidInput."""
    return named("run", pipeline, key)


def named(kind: str, owner: str, key: str) -> str:
    """``{kind}/{owner}/{key}``. Raises InvalidInput."""
    if not key or len(key) > 200 or not all(c.isalnum() or c in "._-:" for c in key):
        raise InvalidInput(f"{key!r} cannot name a run", field="--key", remedy=KEY)
    return f"{kind}/{owner}/{key}"


def cutoff(text: str, option: str = "--cutoff") -> datetime:
    """The time that *text* names, in UTC unless it says another zone: rows have no zone of whoever starts a run. Raises InvalidInput."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as err:  # the latter: outside the years 1 to 9999 in UTC
        raise InvalidInput(f"{text!r} is no time", field=option, remedy="write it as 2026-11-22 or 2026-11-22T16:05:00+01:00") from err


def step(name: str | None) -> StepKind | None:
    """The step called *name*. Raises InvalidInput."""
    if name is None:
        return None
    steps = [kind for kind in StepKind if kind is not StepKind.PREDICT]
    if name not in steps:
        raise InvalidInput(f"there is no step {name!r}", field="--from", remedy=f"one of {', '.join(steps)}")
    return StepKind(name)


async def start(settings: Settings, name: str, request: RunRequest | BatchRequest, *, workflow: str = "TrainingPipeline") -> str:
    """Start the workflow; returns Temporal's id of this execution. Raises Conflict where a run of this name was started before."""
    from temporalio.common import WorkflowIDReusePolicy
    from temporalio.exceptions import WorkflowAlreadyStartedError

    from perdure.cli.clients import temporal

    async with temporal(settings, name) as client:
        try:
            handle = await client.start_workflow(
                workflow,  # by name: the command line imports no workflow code
                request,
                id=name,
                task_queue=QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                rpc_timeout=START,
            )
        except WorkflowAlreadyStartedError as err:
            raise Conflict(
                f"{name} was started before",
                field="--key",
                remedy=f"see it: perdure show {name}; a new run needs another key",
            ) from err
    return str(handle.first_execution_run_id)
