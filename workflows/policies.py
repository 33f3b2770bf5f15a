"""Timeouts and retries under a name. No policy counts attempts: permanent errors say so themselves, transient ones are waited out."""

from __future__ import annotations

from datetime import timedelta
from typing import TypedDict

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityCancellationType, ActivityConfig, ChildWorkflowCancellationType, ParentClosePolicy

MAIN, DATA, TRAIN = "perdure", "perdure-data", "perdure-train"
HEARTBEAT = timedelta(seconds=6)  # a dead worker is noticed after this; beats are sent every second

_RETRY = RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=2, maximum_interval=timedelta(seconds=3))


def _activity(queue: str, longest: timedelta) -> ActivityConfig:
    return {
        "task_queue": queue,
        "start_to_close_timeout": longest,
        "heartbeat_timeout": HEARTBEAT,
        "retry_policy": _RETRY,
        "cancellation_type": ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    }


ROWS = _activity(MAIN, timedelta(days=1))
"""Rows only: milliseconds, or as long as patience lasts."""
BESIDE: ActivityConfig = {**ROWS, "cancellation_type": ActivityCancellationType.TRY_CANCEL}
"""Asks a server that may take a request and say nothing for long: who is cancelled does not wait for it."""
JOB = _activity(DATA, timedelta(days=7))
"""Watches a preparation or evaluation job."""
LOOK: ActivityConfig = {**JOB, "cancellation_type": ActivityCancellationType.TRY_CANCEL}
"""Watches a job beside what may make it needless: who gives it up does not wait for its end."""
TRAINING = _activity(TRAIN, timedelta(days=90))
"""Watches a training; the request's own limits are in the specification (`train.stall`, `patience`)."""


class ChildConfig(TypedDict):
    """The options that every child workflow of a run shares."""

    task_queue: str
    cancellation_type: ChildWorkflowCancellationType
    parent_close_policy: ParentClosePolicy


CHILD: ChildConfig = {
    "task_queue": MAIN,
    "cancellation_type": ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
    "parent_close_policy": ParentClosePolicy.REQUEST_CANCEL,
}
"""A step of a run: it ends with its run."""

LOOK_AGAIN = timedelta(minutes=1)
"""A paused training looks at its rows at least so often."""
VOTES_AGAIN = timedelta(minutes=5)
"""An open approval in which nothing happens looks at its votes after this, then twice as late each time."""
FOREVER = timedelta(days=3650)
"""The patience with which the end of a run that has succeeded is recorded: nothing may falsify it any more."""

PARTITIONS_PER_EXECUTION = 500
"""A preparation continues as new after this many partitions: about 12 history events each."""

TICK_EVERY = 1.0  # seconds
"""A campaign looks at its rows this often while pokes keep coming; after a quiet time at once."""
QUIET = timedelta(hours=6)
"""Who waits for people looks twice as late each time without a poke, up to this; deadlines are timers of their own."""
TICKS_PER_EXECUTION = 300
"""A campaign continues as new after this many looks (about 12 history events each), or when the server suggests it."""
AWAY = timedelta(minutes=1)
"""A campaign whose rows could not be reached for longer than patience looks again after this; so does a run that cannot be closed."""
RECONCILE_EVERY = timedelta(minutes=5)
"""Label Studio is asked this often what its web hook has lost; while it cannot be asked, every `AWAY`."""
AT_ONCE = timedelta(0)
"""The patience of what is tried again anyway."""
DRAIN = timedelta(seconds=5)
"""For so long, a campaign that is to go on in a new execution lets updates come in; then it refuses further ones until all are answered."""

MODEL_AGAIN, MODEL_QUIET = timedelta(minutes=1), timedelta(hours=1)
"""A model's controller that nobody pokes looks at its rows after this, then twice as late each time, up to the latter."""
NEVER = timedelta(days=1)
"""A run that was started by an earlier execution of the controller, and has no row after this, will not come."""
LOOKS_PER_EXECUTION = 300
"""A controller continues as new after this many looks (about 10 history events each), or when the server suggests it."""
RUNS_PER_EXECUTION = 100
"""A backfill continues as new after this many runs."""
