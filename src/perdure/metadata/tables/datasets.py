"""Partitions, datasets and their versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, Big, Created, Key, owned_by


class Partition(Base):
    """What one job of a preparation committed, by phase and index."""

    __tablename__ = "partition"
    __table_args__ = (Index("ix_partition_key", "tenant", "key", postgresql_where=text("key is not null")),)

    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key: Mapped[str | None]
    result: Mapped[dict[str, Any]]
    committed_at: Mapped[Created]


class Dataset(Base):
    """A name under which versions are counted."""

    __tablename__ = "dataset"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[Key]
    name: Mapped[str]
    created_at: Mapped[Created]


class DatasetVersion(Base):
    """A committed dataset. Its manifest is its identity: the same content prepared twice is one version."""

    __tablename__ = "dataset_version"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        UniqueConstraint("dataset_id", "manifest_sha256"),
        CheckConstraint("number > 0", name="number"),
    )

    id: Mapped[Key]
    dataset_id: Mapped[UUID] = mapped_column(owned_by("dataset"))
    number: Mapped[int]
    manifest_id: Mapped[UUID] = mapped_column(owned_by("artifact"))
    manifest_sha256: Mapped[str]
    step_run_id: Mapped[UUID] = mapped_column(owned_by("step_run"), index=True)
    source: Mapped[dict[str, Any] | None]  # uri, digest, bytes
    delta_uri: Mapped[str | None]
    delta_version: Mapped[int | None]
    columns: Mapped[list[Any]]
    classes: Mapped[list[Any]]
    train_rows: Mapped[Big]
    test_rows: Mapped[Big]
    quarantined_rows: Mapped[Big]
    pool_rows: Mapped[Big] = mapped_column(server_default=text("0"))  # without a label
    labeled_rows: Mapped[Big] = mapped_column(server_default=text("0"))  # of the others, those labeled by people in a run
    scored_rows: Mapped[Big] = mapped_column(server_default=text("0"))  # of a batch inference, whose rows are scores
    created_at: Mapped[Created]


class DatasetProfile(Base):
    """The statistics of a dataset version."""

    __tablename__ = "dataset_profile"

    dataset_version_id: Mapped[UUID] = mapped_column(owned_by("dataset_version"), primary_key=True)
    artifact_id: Mapped[UUID] = mapped_column(owned_by("artifact"))


class ValidationResult(Base):
    """A check that rows of a dataset version failed: how many, and an example."""

    __tablename__ = "validation_result"

    dataset_version_id: Mapped[UUID] = mapped_column(owned_by("dataset_version"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    column: Mapped[str | None]
    check: Mapped[str]
    count: Mapped[Big]
    example: Mapped[str | None]
