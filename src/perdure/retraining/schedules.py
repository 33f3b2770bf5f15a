"""The schedules that a specification wants: its dates, its looks at the source, and its monitors' looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from perdure.keys import digest
from perdure.messages.retraining import TriggerKind
from perdure.spec.pipeline import Pipeline

CATCHUP = timedelta(hours=1)  # of looks: what was missed for longer is looked at by the next one anyway


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One schedule: dates as cron writes them in a time zone, or an interval; what it starts, and what it is compared by."""

    id: str
    pipeline: str
    workflow: str
    argument: dict[str, Any]
    cron: str | None = None
    every: timedelta | None = None
    timezone: str = "UTC"
    jitter: timedelta = timedelta(0)
    catchup: timedelta = CATCHUP

    @property
    def sha256(self) -> str:
        """The digest of all that it says."""
        return digest(asdict(self))


def wanted(spec: Pipeline) -> list[Wanted]:
    """Every schedule of *spec*. Names derive from the position among the triggers, so a change of one changes its own schedule."""
    found: list[Wanted] = []
    numbers = {TriggerKind.SCHEDULE: 0, TriggerKind.DATA: 0}
    for trigger in spec.triggers:
        if trigger.kind not in numbers:
            continue
        found.append(
            Wanted(
                id=f"schedule/{spec.name}/{len(found)}",
                pipeline=spec.name,
                workflow="RetrainTrigger",
                argument={"pipeline": spec.name, "kind": trigger.kind.value, "number": numbers[trigger.kind]},
                cron=trigger.schedule,
                every=trigger.every if trigger.schedule is None else None,
                timezone=trigger.timezone,
                jitter=trigger.jitter,
                catchup=trigger.catchup,
            )
        )
        numbers[trigger.kind] += 1
    if spec.monitor is not None:
        found.append(
            Wanted(
                id=f"monitor/{spec.model_name}",
                pipeline=spec.name,
                workflow="DriftMonitor",
                argument={"model": spec.model_name},
                every=spec.monitor.every,
            )
        )
    return found
