"""What a job's process finds on its node, and arranges with the kernel."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
from pathlib import Path

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings

_PR_SET_PDEATHSIG = 1


@functools.cache
def object_store(bucket: str) -> ObjectStore:
    """The object store, with this node's credentials."""
    return ObjectStore(Settings().s3.model_copy(update={"bucket": bucket}))


def die_with_parent(parent: int | None = None) -> None:
    """Ask for SIGKILL when the parent (its thread that started this process) ends; *parent* is its pid, if known.

    Linux only; elsewhere a lost job ends at its next write, which its successor's epoch refuses.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def first_to_go() -> None:
    """Make the kernel choose this process, not a server beside it, when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("900")
    except OSError:
        return  # not Linux, or not allowed: nothing is promised then
