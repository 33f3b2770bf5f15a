"""How an error ends a command: what happened, the remedy, where to read on, and the exit code; never a traceback for what was foreseen."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from perdure.cli.exits import Exit, exit_code
from perdure.cli.output import emit, note

GUIDE = "docs/errors.md"
AWAY = "`perdure up` starts the servers on this machine; `perdure doctor` looks for the cause"
DEFECT = "this is a defect of Perdure: report it with the lines above"


def report(err: BaseException, *, as_json: bool) -> Exit:
    """Tell people (stderr) and, *as_json*, scripts (stdout) about *err*."""
    from perdure.errors import PerdureError, Transient

    if isinstance(err, PerdureError):
        told, code = err.as_dict(), exit_code(type(err).__name__)
        if isinstance(err, Transient) and not told["remedy"]:
            told["remedy"] = AWAY
    else:
        told = {
            "type": type(err).__name__,
            "message": str(err),
            "field": None,
            "remedy": DEFECT,
        }
        code = Exit.DEFECT
        traceback.print_exception(err, file=sys.stderr)
    if as_json:
        emit({"error": told, "exit_code": int(code)})
    explain(told)
    return code


def explain(error: Mapping[str, Any], say: Callable[[str], None] = note) -> None:
    """*say* to people what an error in the shape of `PerdureError.as_dict` is about."""
    kind = str(error.get("type"))
    about = f"{error['field']}: " if error.get("field") else ""
    say(f"{kind}: {about}{error.get('message')}")
    if error.get("remedy"):
        say(f"  remedy: {error['remedy']}")
    if is_known(kind):
        say(f"  more: {GUIDE}#{kind.lower()}")


def is_known(kind: str) -> bool:
    """Whether the guide has a section on errors of this type."""
    from perdure.cli.exits import BY_ERROR

    return kind in BY_ERROR


@contextmanager
def temporal_errors(what: str) -> Iterator[None]:
    """Errors of Temporal's client inside become ours; *what* names the thing that was asked for."""
    from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
    from temporalio.service import RPCError, RPCStatusCode

    from perdure import errors

    try:
        yield
    except WorkflowUpdateFailedError as err:
        raise _refusal(err) from err
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as err:
        raise errors.TemporalUnavailable(f"no answer about {what}", remedy="see that a worker runs: `perdure status`") from err
    except RPCError as err:
        if err.status is RPCStatusCode.NOT_FOUND:
            raise errors.NotFound(f"Temporal knows no {what}", remedy="`perdure runs` lists the runs") from err
        if err.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            raise errors.AccessDenied(
                f"Temporal refused: {err.message}", remedy="correct the TEMPORAL_* variables or `temporal` in the settings"
            ) from err
        if err.status in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION):
            raise errors.Conflict(f"Temporal refused {what}: {err.message}", remedy="`perdure show` tells how the run stands") from err
        raise errors.TemporalUnavailable(f"Temporal did not answer: {err.message}", remedy="`perdure doctor` looks for the cause") from err


def _refusal(failure: BaseException) -> BaseException:
    """The typed error with which a workflow refused an update."""
    from temporalio.exceptions import ApplicationError

    from perdure.errors import Permanent, from_dict, root

    cause = root(failure.__cause__ or failure)
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return from_dict(cause.details[0])
    return Permanent(str(cause))
