"""What comes after a model is good: shares of traffic, experiments, outcomes, drift, decisions about retraining, batch inference."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "e5aecd008b94"
down_revision = "672dcd00c436"
branch_labels = None
depends_on = None

STEPS = ("prepare", "train", "evaluate", "label", "promote")


SERVING_HISTORY = """
CREATE VIEW serving_history AS
SELECT r.tenant, r.model, v.number AS version, 'release' AS role, true AS answers, NULL::double precision AS share, r.since, r.until,
       r.actor, r.reason, r.id AS row_id, r.promotion_id, v.id AS model_version_id
FROM release r
JOIN model_version v ON v.id = r.model_version_id
UNION ALL
SELECT c.tenant, c.model, v.number, c.kind, c.kind IN ('canary', 'arm'), c.share, c.since, c.until,
       p.requested_by, c.outcome, c.id, c.promotion_id, v.id
FROM traffic c
JOIN model_version v ON v.id = c.model_version_id
JOIN promotion p ON p.id = c.promotion_id
"""

FEEDBACK_HISTORY = """
CREATE VIEW feedback_history AS
SELECT f.tenant, f.model, f.version, f.prediction_id, 'feedback' AS kind, f.principal AS who, f.verdict, f.comment,
       NULL::jsonb AS value, f.created_at AS at, NULL::timestamptz AS observed_at
FROM feedback f
UNION ALL
SELECT o.tenant, o.model, split_part(o.prediction_id, '.', 2)::integer, o.prediction_id, 'outcome', o.source, NULL, '',
       o.value -> 'value', o.received_at, o.observed_at
FROM outcome o
"""


def _allow_steps(*steps: str) -> None:
    """Let `step_run.step` and `run.recompute_from` hold these values."""
    for table, column in (("step_run", "step"), ("run", "recompute_from")):
        op.drop_constraint(op.f(f"ck_{table}_stepkind"), table, type_="check")
        op.create_check_constraint(op.f(f"ck_{table}_stepkind"), table, sa.column(column).in_(steps))


EVENTS = ("trained", "evaluated", "refused", "released", "retired")


def _allow_events(*kinds: str) -> None:
    """Let `model_event.kind` hold these values."""
    op.drop_constraint(op.f("ck_model_event_modeleventkind"), "model_event", type_="check")
    op.create_check_constraint(op.f("ck_model_event_modeleventkind"), "model_event", sa.column("kind").in_(kinds))


def upgrade() -> None:
    _allow_events(*EVENTS, "staged", "rolled_back")
    _allow_steps(*STEPS, "predict")
    op.add_column("dataset_version", sa.Column("scored_rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "drift_episode",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("monitor", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("data", "label", "concept", "quality", name="driftkind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column(
            "state",
            sa.Enum("watch", "confirmed", "acted", "closed", name="episodestate", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.Column("last_window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_episode")),
    )
    op.create_index(op.f("ix_drift_episode_tenant_model_opened_at"), "drift_episode", ["tenant", "model", "opened_at"], unique=False)
    op.create_index(
        "uq_drift_episode_open", "drift_episode", ["tenant", "model", "monitor"], unique=True, postgresql_where=sa.text("closed_at is null")
    )
    op.create_table(
        "feedback",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum("right", "wrong", "unsure", name="verdict", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_prediction_id"), "feedback", ["prediction_id"], unique=False)
    op.create_index(op.f("ix_feedback_tenant_model_created_at"), "feedback", ["tenant", "model", "created_at"], unique=False)
    op.create_table(
        "outcome",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome")),
        sa.UniqueConstraint("sequence", name=op.f("uq_outcome_sequence")),
    )
    op.create_index(op.f("ix_outcome_prediction_id"), "outcome", ["prediction_id"], unique=False)
    op.create_index(
        op.f("ix_outcome_tenant_model_received_at_sequence"), "outcome", ["tenant", "model", "received_at", "sequence"], unique=False
    )
    op.create_table(
        "retrain_policy",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrain_policy")),
        sa.UniqueConstraint("tenant", "model", "sha256", name=op.f("uq_retrain_policy_tenant_model_sha256")),
    )
    op.create_table(
        "serving_instance",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("loaded", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("failed", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("predictions", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("logged", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_serving_instance")),
    )
    op.create_index(op.f("ix_serving_instance_tenant_seen_at"), "serving_instance", ["tenant", "seen_at"], unique=False)
    op.create_table(
        "retrain_decision",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("policy_id", sa.Uuid(), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum("train", "label", "nothing", name="outcome", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("episodes", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("helped", sa.Boolean(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["policy_id"], ["retrain_policy.id"], name=op.f("fk_retrain_decision_policy_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrain_decision")),
        sa.UniqueConstraint("tenant", "model", "key", name=op.f("uq_retrain_decision_tenant_model_key")),
    )
    op.create_index(
        op.f("ix_retrain_decision_tenant_model_created_at"), "retrain_decision", ["tenant", "model", "created_at"], unique=False
    )
    op.create_table(
        "drift_event",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column(
            "kind",
            sa.Enum("data", "label", "concept", "quality", name="driftkind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("monitor", sa.Text(), nullable=False),
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("window_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("drifted", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.Double(), nullable=False),
        sa.Column("metrics", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("report_uri", sa.Text(), nullable=True),
        sa.Column("level", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("episode_id", sa.Uuid(), nullable=True),
        sa.Column("decision_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["decision_id"], ["retrain_decision.id"], name=op.f("fk_drift_event_decision_id")),
        sa.ForeignKeyConstraint(["episode_id"], ["drift_episode.id"], name=op.f("fk_drift_event_episode_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_event")),
        sa.UniqueConstraint("tenant", "source", "event_id", name=op.f("uq_drift_event_tenant_source_event_id")),
    )
    op.create_index(op.f("ix_drift_event_decision_id"), "drift_event", ["decision_id"], unique=False)
    op.create_index(op.f("ix_drift_event_episode_id"), "drift_event", ["episode_id"], unique=False)
    op.create_index(op.f("ix_drift_event_tenant_model_received_at"), "drift_event", ["tenant", "model", "received_at"], unique=False)
    op.create_index(
        op.f("ix_drift_event_tenant_model_monitor_received_at"),
        "drift_event",
        ["tenant", "model", "monitor", "received_at"],
        unique=False,
    )
    op.create_index(
        "ix_drift_event_undecided",
        "drift_event",
        ["tenant", "model", "received_at"],
        unique=False,
        postgresql_where=sa.text("decision_id is null"),
    )
    op.create_table(
        "retrain_trigger",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "schedule", "data", "labels", "dataset", "force", name="triggerkind", native_enum=False, create_constraint=True, length=32
            ),
            nullable=False,
        ),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decision_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["decision_id"], ["retrain_decision.id"], name=op.f("fk_retrain_trigger_decision_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrain_trigger")),
        sa.UniqueConstraint("tenant", "model", "key", name=op.f("uq_retrain_trigger_tenant_model_key")),
    )
    op.create_index(op.f("ix_retrain_trigger_decision_id"), "retrain_trigger", ["decision_id"], unique=False)
    op.create_index(
        "ix_retrain_trigger_undecided",
        "retrain_trigger",
        ["tenant", "model", "at"],
        unique=False,
        postgresql_where=sa.text("decision_id is null"),
    )
    op.create_table(
        "batch_inference",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("source_version_id", sa.Uuid(), nullable=True),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_batch_inference_model_version_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_batch_inference_run_id")),
        sa.ForeignKeyConstraint(["source_version_id"], ["dataset_version.id"], name=op.f("fk_batch_inference_source_version_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_batch_inference")),
    )
    op.create_index(op.f("ix_batch_inference_model_version_id"), "batch_inference", ["model_version_id"], unique=False)
    op.create_table(
        "serving_window",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("instance_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("by_id", sa.Uuid(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("latency", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("disagreements", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["serving_instance.id"], name=op.f("fk_serving_window_instance_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_serving_window_model_version_id")),
        sa.PrimaryKeyConstraint("instance_id", "model_version_id", "role", "by_id", "minute", name=op.f("pk_serving_window")),
    )
    op.create_index(op.f("ix_serving_window_minute"), "serving_window", ["minute"], unique=False)
    op.create_index(op.f("ix_serving_window_model_version_id_minute"), "serving_window", ["model_version_id", "minute"], unique=False)
    op.create_table(
        "experiment",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("promotion_id", sa.Uuid(), nullable=False),
        sa.Column("champion_id", sa.Uuid(), nullable=False),
        sa.Column("challenger_id", sa.Uuid(), nullable=False),
        sa.Column("spec", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "running",
                "challenger",
                "champion",
                "inconclusive",
                "stopped",
                name="experimentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="running",
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["challenger_id"], ["model_version.id"], name=op.f("fk_experiment_challenger_id")),
        sa.ForeignKeyConstraint(["champion_id"], ["model_version.id"], name=op.f("fk_experiment_champion_id")),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotion.id"], name=op.f("fk_experiment_promotion_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
    )
    op.create_index(op.f("ix_experiment_tenant_model_started_at"), "experiment", ["tenant", "model", "started_at"], unique=False)
    op.create_table(
        "traffic",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("promotion_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum("standby", "shadow", "canary", "arm", name="traffickind", native_enum=False, create_constraint=True, length=32),
            nullable=False,
        ),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("share >= 0 and share <= 100", name=op.f("ck_traffic_share")),
        sa.CheckConstraint("until > since", name=op.f("ck_traffic_interval")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_traffic_model_version_id")),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotion.id"], name=op.f("fk_traffic_promotion_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_traffic")),
    )
    op.create_index(op.f("ix_traffic_model_version_id"), "traffic", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_traffic_promotion_id"), "traffic", ["promotion_id"], unique=False)
    op.create_index(op.f("ix_traffic_tenant_model_since"), "traffic", ["tenant", "model", "since"], unique=False)
    op.create_index("uq_traffic_open", "traffic", ["tenant", "model"], unique=True, postgresql_where=sa.text("until is null"))
    op.create_table(
        "experiment_look",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("figures", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column(
            "verdict",
            sa.Enum(
                "running",
                "challenger",
                "champion",
                "inconclusive",
                "stopped",
                name="experimentstate",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], name=op.f("fk_experiment_look_experiment_id")),
        sa.PrimaryKeyConstraint("experiment_id", "number", name=op.f("pk_experiment_look")),
    )
    op.add_column("release", sa.Column("rolled_back_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_release_rolled_back_id"), "release", "release", ["rolled_back_id"], ["id"])
    op.execute(SERVING_HISTORY)
    op.execute(FEEDBACK_HISTORY)


def downgrade() -> None:
    op.execute("DROP VIEW feedback_history")
    op.execute("DROP VIEW serving_history")
    op.drop_column("dataset_version", "scored_rows")
    op.drop_constraint(op.f("fk_release_rolled_back_id"), "release", type_="foreignkey")
    op.drop_column("release", "rolled_back_id")
    op.drop_table("experiment_look")
    op.drop_index("uq_traffic_open", table_name="traffic", postgresql_where=sa.text("until is null"))
    op.drop_index(op.f("ix_traffic_tenant_model_since"), table_name="traffic")
    op.drop_index(op.f("ix_traffic_promotion_id"), table_name="traffic")
    op.drop_index(op.f("ix_traffic_model_version_id"), table_name="traffic")
    op.drop_table("traffic")
    op.drop_index(op.f("ix_experiment_tenant_model_started_at"), table_name="experiment")
    op.drop_table("experiment")
    op.drop_index(op.f("ix_serving_window_model_version_id_minute"), table_name="serving_window")
    op.drop_index(op.f("ix_serving_window_minute"), table_name="serving_window")
    op.drop_table("serving_window")
    op.drop_index(op.f("ix_batch_inference_model_version_id"), table_name="batch_inference")
    op.drop_table("batch_inference")
    op.drop_index("ix_retrain_trigger_undecided", table_name="retrain_trigger", postgresql_where=sa.text("decision_id is null"))
    op.drop_index(op.f("ix_retrain_trigger_decision_id"), table_name="retrain_trigger")
    op.drop_table("retrain_trigger")
    op.drop_index("ix_drift_event_undecided", table_name="drift_event", postgresql_where=sa.text("decision_id is null"))
    op.drop_index(op.f("ix_drift_event_tenant_model_monitor_received_at"), table_name="drift_event")
    op.drop_index(op.f("ix_drift_event_tenant_model_received_at"), table_name="drift_event")
    op.drop_index(op.f("ix_drift_event_episode_id"), table_name="drift_event")
    op.drop_index(op.f("ix_drift_event_decision_id"), table_name="drift_event")
    op.drop_table("drift_event")
    op.drop_index(op.f("ix_retrain_decision_tenant_model_created_at"), table_name="retrain_decision")
    op.drop_table("retrain_decision")
    op.drop_index(op.f("ix_serving_instance_tenant_seen_at"), table_name="serving_instance")
    op.drop_table("serving_instance")
    op.drop_table("retrain_policy")
    op.drop_index(op.f("ix_outcome_tenant_model_received_at_sequence"), table_name="outcome")
    op.drop_index(op.f("ix_outcome_prediction_id"), table_name="outcome")
    op.drop_table("outcome")
    op.drop_index(op.f("ix_feedback_tenant_model_created_at"), table_name="feedback")
    op.drop_index(op.f("ix_feedback_prediction_id"), table_name="feedback")
    op.drop_table("feedback")
    op.drop_index("uq_drift_episode_open", table_name="drift_episode", postgresql_where=sa.text("closed_at is null"))
    op.drop_index(op.f("ix_drift_episode_tenant_model_opened_at"), table_name="drift_episode")
    op.drop_table("drift_episode")
    _allow_steps(*STEPS)
    _allow_events(*EVENTS)
