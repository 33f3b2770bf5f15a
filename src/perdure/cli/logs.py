"""``logs``: what a service of the local stack, or the jobs of a run, have printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli.commands import named_run
from perdure.cli.output import Json, emit, note, when

COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Ray paints its lines

if TYPE_CHECKING:
    from perdure.config import Settings
    from perdure.metadata.queries import RunDetail


def logs(
    name: Annotated[str, typer.Argument(metavar="SERVICE|RUN", help="A service of the local stack, or a run.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Of a service: go on as new lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Of a service: how many of its last lines.")] = 200,
    as_json: Json = False,
) -> None:
    """Print the log of a service, or the last output of a run's jobs."""
    from perdure.cli.clients import read_settings
    from perdure.config import find_home
    from perdure.local.files import Home

    if Home(find_home()).log(name).exists():
        _service(name, follow, lines, as_json=as_json)
        return
    _run(name, read_settings(), as_json=as_json)


def _service(name: str, follow: bool, lines: int, *, as_json: bool) -> None:
    from perdure.config import find_home
    from perdure.local import stack

    found = stack.logs(find_home(), name, follow=follow and not as_json, lines=lines)
    if as_json:
        emit(list(found))
        return
    for line in found:
        print(line, flush=follow)


def _run(name: str, settings: Settings, *, as_json: bool) -> None:
    from perdure.errors import NotFound, StoreUnavailable
    from perdure.local.files import Home
    from perdure.metadata.database import Database
    from perdure.metadata.queries import show_run

    try:
        with Database.open(settings) as database:
            detail = show_run(database, named_run(database, name))
    except (NotFound, StoreUnavailable) as err:
        if "/" in name:
            raise
        known = sorted(log.stem for log in Home(settings.home).logs.glob("*.log"))
        raise NotFound(
            f"{name!r} is no run, and no service of the local stack", remedy=f"services that have a log: {', '.join(known) or 'none'}"
        ) from err
    outputs = _outputs(detail, settings)
    if as_json:
        emit(outputs)
        return
    for each in outputs:
        code = f", exit code {each['exit_code']}" if each["exit_code"] is not None else ""
        which = f"{each['step']} (round {each['of_round']})" if each["of_round"] else each["step"]
        print(f"--- {which} {each['name']} number {each['number']}: {each['state']}{code}, started {when(each['started_at'])}")
        print(each["output"].rstrip() or "(nothing was kept)")
    if not outputs:
        note(f"{detail.run.workflow_id} has started no job yet")


def _outputs(detail: RunDetail, settings: Settings) -> list[dict[str, Any]]:
    """Every start of every job; the output of Ray's from Ray while it keeps it, else the tail that its row keeps."""
    from perdure.errors import PerdureError

    found = []
    for step in detail.steps:
        on_ray = step.step == "train" and detail.spec["train"]["engine"] == "ray" and settings.ray.url
        for job in step.submissions:
            output = str(job["message"])
            if on_ray:
                from perdure.adapters.ray_jobs import RayJobs

                try:
                    output = RayJobs(settings.ray).logs(job["job_id"]) or output
                except PerdureError as err:
                    note(f"{err.problem}; showing what the row keeps")
            found.append({"step": str(step.step), "of_round": step.round, **job, "output": COLOURS.sub("", output)})
    return found


def add(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel="Local stack")(logs)
