"""Artifacts and what they were made from: the edges of lineage."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class ArtifactKind(StrEnum):
    """What an artifact is."""

    SOURCE = "source"  # a file of the owner's, outside Perdure's bucket
    CODE = "code"
    MANIFEST = "manifest"
    PROFILE = "profile"
    TRANSFORM_STATE = "transform_state"
    PREDICTOR = "predictor"
    SCORES = "scores"
    TASKS = "tasks"
    LABELS = "labels"


class Artifact(Base):
    """Bytes that were found under a URI. A source's URI may come with several hashes over time, an object's never does."""

    __tablename__ = "artifact"
    __table_args__ = (
        UniqueConstraint("tenant", "uri", "sha256"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
    )

    id: Mapped[Key]
    kind: Mapped[ArtifactKind]
    uri: Mapped[str]
    sha256: Mapped[str] = mapped_column(index=True)
    size: Mapped[Big]
    created_at: Mapped[Created]


class ArtifactInput(Base):
    """``artifact_id`` was made from ``input_id``, in this role (``source``, ``code``, ``dataset``, ``challenger``, ``champion``)."""

    __tablename__ = "artifact_input"

    artifact_id: Mapped[UUID] = mapped_column(owned_by("artifact"), primary_key=True)
    input_id: Mapped[UUID] = mapped_column(owned_by("artifact"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(primary_key=True)
