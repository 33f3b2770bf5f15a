"""The SQL views that answer who served when, made of what, released by whom. Migrations create them; here they get names in Python.

``SELECT version, actor FROM release_history WHERE model = 'm' AND since <= :t AND (until IS NULL OR until > :t)`` says which version
answered at *t*; ``model_origin`` has one row per model version with all that it was trained on. ``serving_history`` also has what took part
beside the released version (``answers``: whether callers got its answers), ``feedback_history`` what people said and what turned out true.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, DateTime, Double, Integer, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

_views = MetaData()  # apart from the tables': migrations are not compared with views
_moment = DateTime(timezone=True)

release_history = Table(
    "release_history",
    _views,
    *(Column(name, Text) for name in ("tenant", "model", "actor", "reason", "requested_by", "evidence_sha256", "predictor_sha256")),
    Column("version", Integer),
    Column("since", _moment),
    Column("until", _moment),
    Column("votes", JSONB),
    Column("metrics", JSONB),
    Column("predictor_uri", Text),
    Column("release_id", Uuid),
    Column("model_version_id", Uuid),
)

model_origin = Table(
    "model_origin",
    _views,
    *(Column(name, Text) for name in ("tenant", "model", "run", "requested_by", "pipeline", "pipeline_sha256", "git_commit")),
    *(Column(name, Text) for name in ("code_sha256", "code_uri", "dataset", "manifest_sha256", "manifest_uri")),
    *(Column(name, Text) for name in ("predictor_sha256", "predictor_uri")),
    *(Column(name, Integer) for name in ("version", "pipeline_version", "dataset_version", "train_rows", "rounds")),
    *(Column(name, JSONB) for name in ("source", "data", "train", "environment", "metrics")),
    Column("trained_at", _moment),
    Column("model_version_id", Uuid),
    Column("run_id", Uuid),
)

serving_history = Table(
    "serving_history",
    _views,
    *(Column(name, Text) for name in ("tenant", "model", "role", "actor", "reason")),
    Column("version", Integer),
    Column("answers", Boolean),
    Column("share", Double),
    Column("since", _moment),
    Column("until", _moment),
    *(Column(name, Uuid) for name in ("row_id", "promotion_id", "model_version_id")),
)

feedback_history = Table(
    "feedback_history",
    _views,
    *(Column(name, Text) for name in ("tenant", "model", "prediction_id", "kind", "who", "verdict", "comment")),
    Column("version", Integer),
    Column("value", JSONB),
    Column("at", _moment),
    Column("observed_at", _moment),
)
