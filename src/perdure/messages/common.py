"""What the messages of several steps share."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

STRICT: dict[str, str] = {"extra": "forbid"}  # as `__pydantic_config__`: an unknown field is an error, not a silent default
PATIENCE = timedelta(minutes=10)
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """An immutable object: where it lies, and what it must hash to."""

    uri: str
    sha256: str
    size: int = 0

    def as_json(self) -> Json:
        """The reference as plain data, as jobs read it."""
        return {"uri": self.uri, "sha256": self.sha256, "size": self.size}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """The reference that `as_json` (or a file entry with more fields) describes."""
        return cls(uri=data["uri"], sha256=data["sha256"], size=data.get("size", 0))


@dataclass(frozen=True, kw_only=True)
class StepRequest:
    """What every step activity is told: whose step it is, and for how long an unreachable part is waited for."""

    run_id: UUID
    round: int = 0
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class StepRunRef:
    """A step run that an earlier activity opened; ``index`` names a partition of it where there are several."""

    step_run: UUID
    index: int = 0
    patience: timedelta = PATIENCE


@dataclass(frozen=True, kw_only=True)
class Command:
    """A person's command. ``actor`` is who says it; by bare Temporal CLI it is a claim, not a proof."""

    actor: str = "unknown"
    reason: str = ""
    __pydantic_config__ = STRICT


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Named figures of one evaluation or round."""

    values: dict[str, float] = field(default_factory=dict)
