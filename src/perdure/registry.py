"""What MLflow's registry says of each model beside what rows say: whoever changed it, it is put right, and told.

A look costs two requests. Each model is looked at every few seconds, a few models in each pass.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

CHAMPION = "champion"
VERSION_TAG, EVENTS_TAG = "perdure.version", "perdure.events"
EVERY = 5.0  # seconds between two looks at a model
AT_ONCE = 10  # models that one pass looks at
LONGEST = 5_000  # characters that MLflow takes as the value of a tag

log = logging.getLogger("perdure.registry")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What MLflow was told of a model. Without a release no version is the champion, and ``external`` (MLflow's number of it) is None."""

    model: str
    release: UUID | None = None
    external: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What MLflow says: whether what was registered is there, which version the alias names, and that version's tags."""

    there: bool
    champion: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class Told(Protocol):
    """The rows' side."""

    def models(self) -> list[str]:
        """Models that MLflow knows, by name."""

    def expected(self, models: Sequence[str]) -> list[Expected]:
        """What is expected of these models, but for those that MLflow does not know, or of which something is still to be pushed."""

    def repaired(self, expected: Expected, found: Sequence[str]) -> None:
        """Record what was found to be wrong, in the audit."""

    def forget(self, model: str) -> None:
        """Take all that was pushed of *model*, its versions and their runs as not pushed: it is pushed again."""


class Registered(Protocol):
    """MLflow's side."""

    def look(self, model: str, external: str | None) -> Seen:
        """What is registered under *model*, with the tags of its version *external*."""

    def mend(self, model: str, external: str | None, tags: Mapping[str, str]) -> None:
        """Make *external* the champion and set its tags; None: no version is the champion."""


class Looks:
    """Looks at models in turn."""

    def __init__(self, rows: Told, registry: Registered, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._registry, self._clock = rows, registry, clock
        self._looked: dict[str, float] = {}

    def run_once(self) -> int:
        """Look at the models whose turn it is; how many had to be put right."""
        now = self._clock()
        self._looked = {model: self._looked.get(model, float("-inf")) for model in self._rows.models()}
        due = sorted((at, model) for model, at in self._looked.items() if now - at >= EVERY)[:AT_ONCE]
        expected = {each.model: each for each in self._rows.expected([model for _, model in due])} if due else {}
        repaired = 0
        for _, model in due:
            self._looked[model] = now
            if model in expected:
                repaired += self._look(expected[model])
        return repaired

    def _look(self, expected: Expected) -> bool:
        found = differences(expected, self._registry.look(expected.model, expected.external))
        if not found or self._rows.expected([expected.model]) != [expected]:  # the rows changed meanwhile: another pass looks again
            return False
        log.warning("MLflow's registry says otherwise: repairing it", extra={"model": expected.model, "found": found})
        if found == [GONE]:
            self._rows.forget(expected.model)
        else:
            self._registry.mend(expected.model, expected.external, expected.tags)
        self._rows.repaired(expected, found)
        return True


GONE = "what was registered is gone"


def differences(expected: Expected, seen: Seen) -> list[str]:
    """What MLflow says otherwise than rows, in words; only `GONE` where there is nothing to compare with."""
    if not seen.there:
        return [GONE] if expected.external is not None else []
    found = []
    if seen.champion != expected.external:
        says = f"version {seen.champion}" if seen.champion else "no version"
        found.append(f"the alias {CHAMPION} names {says}, not {f'version {expected.external}' if expected.external else 'none'}")
    for name, value in sorted(expected.tags.items()):
        if seen.tags.get(name) != value:
            found.append(f"the tag {name} of version {expected.external} is {seen.tags.get(name)!r}, not {value!r}")
    return found


def version_tags(number: int, tags: Mapping[str, str], events: Sequence[str]) -> dict[str, str]:
    """The tags of a registered version that are ours."""
    ours = {**tags, VERSION_TAG: str(number), EVENTS_TAG: ", ".join(events)}
    return {name: value[:LONGEST] for name, value in ours.items()}
