"""Snapshots of labels, as jobs read them: their lines, and whether a label is one of the target's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from perdure.jobs.context import JobContext
from perdure.messages.common import ArtifactRef, Json

_BYTES = 4 << 20  # of lines read at once


def batches(job: JobContext, snapshot: Json) -> Iterator[list[Json]]:
    """The lines of *snapshot* (an artifact), some megabytes at a time."""
    ref = ArtifactRef.from_json(snapshot)
    path = job.objects.download(ref, job.scratch / f"labels-{ref.sha256}.ndjson")
    try:
        with path.open("rb") as file:
            while lines := file.readlines(_BYTES):
                yield [json.loads(line) for line in lines]
    finally:
        path.unlink()


def misfit(value: Any, task: str, choices: Collection[str] = ()) -> str | None:
    """What *value* is not, to be a label of a *task*; None for one that is. Without *choices* every text is a class."""
    if task == "regression":
        return "no number" if isinstance(value, bool) or not isinstance(value, int | float) else None
    if isinstance(value, str) and (not choices or value in choices):
        return None
    return f"none of: {', '.join(choices)}" if choices else "no class"
