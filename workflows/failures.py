"""How a workflow fails: with the error that people want to read, not with the wrappers around it."""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from perdure.errors import Permanent, bounded, from_dict, root
from perdure.messages.common import Json


def describe(failure: BaseException) -> Json:
    """The failure as plain data (`PerdureError.as_dict`-shaped), for the run's row."""
    cause = root(failure)
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return dict(cause.details[0])
    kind = getattr(cause, "type", None) or type(cause).__name__
    return {"type": kind, "message": bounded(str(cause)), "field": None, "remedy": None}


def readable(failure: FailureError) -> ApplicationError:
    """*failure* as the workflow's own: the same type and text, shown by every Temporal tool without unfolding."""
    cause = root(failure)
    if isinstance(cause, ApplicationError) and cause.details and isinstance(cause.details[0], dict):
        return from_dict(cause.details[0])
    return Permanent(bounded(str(cause)))


def stop_if_cancelled() -> None:
    """Raise `asyncio.CancelledError` where the workflow was asked to cancel.

    A child or activity that completes in spite of the cancellation swallows it: without another look the workflow would go on.
    """
    if workflow.cancellation_reason() is not None:
        raise asyncio.CancelledError("cancelled")
