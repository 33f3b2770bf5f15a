"""Schedules follow what is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.adapters.schedules import Change
    from perdure.config import Settings
    from perdure.ports import PipelineVersion


def sync(settings: Settings, version: PipelineVersion) -> list[Change]:
    """Make Temporal's schedules those that *version* wants; what was done. Temporal is not asked for a pipeline that never wanted any.

    Raises TemporalUnavailable: the version is applied then, its schedules are not.
    """
    from perdure.adapters.schedules import apply
    from perdure.cli.clients import temporal, wait_for
    from perdure.errors import TemporalUnavailable
    from perdure.metadata.database import Database
    from perdure.metadata.queries.retraining import ever_scheduled
    from perdure.retraining.schedules import wanted
    from perdure.spec.pipeline import load

    spec = load(version.spec)
    schedules = wanted(spec)
    with Database.open(settings) as database:
        models = ever_scheduled(database, version.name)
    if not schedules and not models:
        return []

    async def ask() -> list[Change]:
        async with temporal(settings, f"schedules of {version.name}") as client:
            return await apply(client, spec.name, models, schedules)

    try:
        return wait_for(ask())
    except TemporalUnavailable as err:
        raise TemporalUnavailable(
            f"{version.name} is applied (version {version.number}), but its schedules are as they were before: {err.problem}",
            field=err.field,
            remedy="apply it again when Temporal answers: nothing else is missing",
        ) from err
