"""What all tables share: names of constraints, column types, and the tenant."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Double, Enum, ForeignKey, Identity, MetaData, Text, Uuid, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

Key = Annotated[UUID, mapped_column(primary_key=True)]
"""A uuid that the client made: writing the same thing twice meets its own first row."""
Serial = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Created = Annotated[datetime, mapped_column(server_default=func.now())]
Big = Annotated[int, mapped_column(BigInteger)]


def owned_by(table: str) -> ForeignKey:
    """A foreign key to *table*'s id. Rows are never deleted while something refers to them."""
    return ForeignKey(f"{table}.id")


class Base(DeclarativeBase):
    """All tables. Every row belongs to a tenant, and every natural key starts with it."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it once)
        str: Text,
        float: Double,
        UUID: Uuid,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
        # Text with a CHECK rather than a native enum: a new value is an ordinary migration that old code survives.
        enum.Enum: Enum(
            enum.Enum, native_enum=False, create_constraint=True, length=32, values_callable=lambda kind: [str(m.value) for m in kind]
        ),
    }

    tenant: Mapped[str] = mapped_column(server_default="default", sort_order=-1)
