"""Names of campaigns that nobody has named: those that runs start, and those about predictions."""

from __future__ import annotations

import re
from uuid import UUID

from perdure.keys import identity


def campaign_name(workflow_id: str, what: str, step_run: UUID, tasks_sha256: str) -> str:
    """The name of a step's campaign: the same for the same tasks, so that a step that begins again finds what people have said."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", workflow_id.removeprefix("run/")).strip("-.")[:60] or "run"
    return f"{readable}-{what}-{identity(step_run, tasks_sha256).hex[:8]}"


def predictions_name(model: str) -> str:
    """The name of the campaign about *model*'s predictions; where another question is asked later, a digest is put behind it."""
    return f"{model}-predictions"
