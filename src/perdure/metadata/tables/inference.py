"""Batch inference: a run that scores a source with one model version."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from perdure.metadata.tables.base import Base, owned_by


class BatchInference(Base):
    """What is particular to a run that scores: by which version, into which data set. Its shards are partitions of its one step."""

    __tablename__ = "batch_inference"

    run_id: Mapped[UUID] = mapped_column(owned_by("run"), primary_key=True)
    model_version_id: Mapped[UUID] = mapped_column(owned_by("model_version"), index=True)
    source_version_id: Mapped[UUID | None] = mapped_column(owned_by("dataset_version"))  # where the source is a data set of ours
    dataset: Mapped[str]
