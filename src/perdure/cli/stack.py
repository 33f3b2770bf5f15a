"""``up``, ``down``, ``status``, ``logs``, ``doctor``: the local stack, and whether everything answers."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from perdure.cli.exits import Exit
from perdure.cli.output import Json, emit, lasting, note, table

PANEL = "Local stack"


def up(
    only: Annotated[list[str] | None, typer.Option("--only", help="Start only this service; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Start Postgres, S3, Temporal, MLflow, Ray, workers, reconciler, relay, gateway and serving on this machine.

    Nothing happens where they run already. The first start fetches or builds the servers; those that the settings name
    elsewhere are used, not started.
    """
    from perdure.config import find_home
    from perdure.local import stack

    stack.up(find_home(), only=set(only) if only else None, echo=note)
    if as_json:
        emit(stack.status(find_home()))


def down(as_json: Json = False) -> None:
    """Stop everything; data stays, and runs go on after the next up."""
    from perdure.config import find_home
    from perdure.local import stack

    stack.down(find_home(), echo=note)
    if as_json:
        emit(stack.status(find_home()))


def status(as_json: Json = False) -> None:
    """Show the services of the local stack.

    Ends with 1 where one of them is not ready.
    """
    from perdure.config import find_home
    from perdure.local import stack

    services = stack.status(find_home())
    if as_json:
        emit(services)
    else:
        now = time.time()
        table(
            ("service", "state", "since", "pid", "restarts", "address", ""),
            [(s.name, s.state, lasting(now - s.since) if s.since else "", s.pid, s.restarts or "", s.url, s.detail) for s in services],
            right=("pid", "restarts"),
            empty="nothing was started here; `perdure up` starts everything",
        )
    if any(service.state != "ready" for service in services if not service.background) or not services:
        raise typer.Exit(Exit.FAILED)


def doctor(as_json: Json = False) -> None:
    """Check every part, and name the remedy for what is wrong.

    Looks at each address, credential, version, clock, disk and port. Ends with 1 if anything is wrong.
    """
    from perdure.config import find_home
    from perdure.local.doctor import doctor as examine

    checks = examine(find_home())
    if as_json:
        emit(checks)
    else:
        for check in checks:
            print(f"{'ok   ' if check.ok else 'note ' if check.optional else 'WRONG'}  {check.name}: {check.detail}")
            if check.remedy and not check.ok:
                print(f"       remedy: {check.remedy}")
    wrong = [check for check in checks if not check.ok and not check.optional]
    if wrong:
        note(f"{len(wrong)} of {len(checks)} checks failed")
        raise typer.Exit(Exit.FAILED)
    note(f"{len(checks)} checks, nothing is wrong")


def add(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (up, down, status, doctor):
        app.command(rich_help_panel=PANEL)(command)
