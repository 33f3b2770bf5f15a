"""``drift``, ``monitor``: what monitors said of a model last, and a look at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.output import Json, emit, note, table, when

if TYPE_CHECKING:
    from perdure.metadata.queries.drift import Said

PANEL = "Models"
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's name.")]


def drift(model: Model, as_json: Json = False) -> None:
    """Tell what each monitor said of a model last, what has drifted, and where the report is."""
    from perdure.cli.clients import read_settings
    from perdure.metadata.database import Database
    from perdure.metadata.queries.drift import last_said

    with Database.open(read_settings()) as database:
        found = last_said(database, model)
    if as_json:
        emit(found)
        return
    table(
        ("monitor", "kind", "version", "window ends", "rows", "verdict", "severity", "most"),
        [
            (
                each.monitor,
                each.kind,
                each.version,
                when(each.window_end),
                each.n,
                "drifted" if each.drifted else "quiet",
                f"{each.severity:.3f}",
                _most(each),
            )
            for each in found
        ],
        right=("version", "rows", "severity"),
        empty=f"no monitor has said anything yet; look now: perdure monitor {model}",
    )
    for uri in dict.fromkeys(each.report_uri for each in found if each.report_uri):
        note(f"report: {uri}")


def _most(said: Said) -> str:
    """The features that drifted, the largest effects first."""
    drifted = [test for test in said.metrics if test.get("drifted")]
    drifted.sort(key=lambda test: -float(test.get("statistic", 0)))
    names = [f"{test.get('feature')} ({test.get('method')} {float(test.get('statistic', 0)):.2f})" for test in drifted]
    notes = [str(test["note"]) for test in said.metrics if "note" in test]
    return ", ".join([*notes[:3], *names[:3]]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def monitor(model: Model, as_json: Json = False) -> None:
    """Look at a model now, and tell what is found.

    It runs as a workflow of its own; windows end where the last look of the schedule's interval would end, so that it repeats no event.
    """
    from perdure.cli.clients import read_settings, temporal, wait_for
    from perdure.cli.starting import QUEUE
    from perdure.messages.monitoring import LookResult, MonitorRequest

    settings = read_settings()
    workflow_id = f"look/{model}/{datetime.now(UTC):%Y%m%d-%H%M%S}"

    async def look() -> LookResult:
        from temporalio.common import WorkflowIDConflictPolicy

        async with temporal(settings, workflow_id) as client:
            found: LookResult = await client.execute_workflow(
                "DriftMonitor",
                MonitorRequest(model=model),
                id=workflow_id,
                task_queue=QUEUE,
                result_type=LookResult,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
            return found

    found = wait_for(look())
    if as_json:
        emit(found)
    elif not found.looked:
        note(f"nothing was looked at: {found.reason}")
    else:
        drift(model)


def add(app: typer.Typer) -> None:
    """Add these commands."""
    app.command(rich_help_panel=PANEL)(drift)
    app.command(rich_help_panel=PANEL)(monitor)
