"""The first schema: pipelines, runs, steps, datasets, models, evaluations, promotions, lineage, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "4c1e0a7b9d21"
down_revision = None
branch_labels = None
depends_on = None

Json = JSONB(none_as_null=True)
Checked = {"native_enum": False, "create_constraint": True, "length": 32}  # text with a CHECK
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "artifact",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "source",
                "code",
                "manifest",
                "profile",
                "transform_state",
                "predictor",
                "scores",
                "tasks",
                "labels",
                name="artifactkind",
                **Checked,
            ),
            nullable=False,
        ),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_artifact_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("tenant", "uri", "sha256", name=op.f("uq_artifact_tenant_uri_sha256")),
    )
    op.create_index(op.f("ix_artifact_sha256"), "artifact", ["sha256"], unique=False)
    op.create_table(
        "audit",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("command_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("before", Json, nullable=True),
        sa.Column("after", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_tenant_object_id"), "audit", ["tenant", "object_id"], unique=False)
    op.create_index(
        "uq_audit_command", "audit", ["tenant", "object_id", "command_id"], unique=True, postgresql_where=sa.text("command_id is not null")
    )
    op.create_table(
        "dataset",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_dataset_tenant_name")),
    )
    op.create_table(
        "projection",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("kind", sa.Enum("run", "metric", "model_version", "release", name="projectionkind", **Checked), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("pushed_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "object_id", name=op.f("pk_projection")),
    )
    op.create_table(
        "artifact_input",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.Column("input_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_artifact_input_artifact_id")),
        sa.ForeignKeyConstraint(["input_id"], ["artifact.id"], name=op.f("fk_artifact_input_input_id")),
        sa.PrimaryKeyConstraint("artifact_id", "input_id", "role", name=op.f("pk_artifact_input")),
    )
    op.create_index(op.f("ix_artifact_input_input_id"), "artifact_input", ["input_id"], unique=False)
    op.create_table(
        "pipeline_version",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("code_id", sa.Uuid(), nullable=True),
        sa.Column("git_commit", sa.Text(), nullable=True),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("applied_by", sa.Text(), nullable=False),
        sa.Column("applied_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_pipeline_version_number")),
        sa.ForeignKeyConstraint(["code_id"], ["artifact.id"], name=op.f("fk_pipeline_version_code_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_version")),
        sa.UniqueConstraint("tenant", "name", "number", name=op.f("uq_pipeline_version_tenant_name_number")),
        sa.UniqueConstraint("tenant", "name", "sha256", name=op.f("uq_pipeline_version_tenant_name_sha256")),
    )
    op.create_index("uq_pipeline_version_newest", "pipeline_version", ["tenant", "name"], unique=True, postgresql_where=sa.text("newest"))
    op.create_table(
        "run",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("pipeline_version_id", sa.Uuid(), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("request", Json, nullable=False),
        sa.Column(
            "state",
            sa.Enum("running", "paused", "succeeded", "failed", "cancelled", "terminated", name="runstate", **Checked),
            server_default="running",
            nullable=False,
        ),
        sa.Column("cache", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("recompute_from", sa.Enum("prepare", "train", "evaluate", "label", "promote", name="stepkind", **Checked), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("error", Json, nullable=True),
        sa.Column("started_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.CheckConstraint("(state in ('running', 'paused')) = (finished_at is null)", name=op.f("ck_run_finished")),
        sa.ForeignKeyConstraint(["pipeline_version_id"], ["pipeline_version.id"], name=op.f("fk_run_pipeline_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("tenant", "workflow_id", name=op.f("uq_run_tenant_workflow_id")),
    )
    op.create_index("ix_run_live", "run", ["tenant"], unique=False, postgresql_where=sa.text("state in ('running', 'paused')"))
    op.create_index(op.f("ix_run_pipeline_version_id"), "run", ["pipeline_version_id"], unique=False)
    op.create_index(op.f("ix_run_tenant_started_at"), "run", ["tenant", "started_at"], unique=False)
    op.create_table(
        "step_run",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("step", sa.Enum("prepare", "train", "evaluate", "label", "promote", name="stepkind", **Checked), nullable=False),
        sa.Column(
            "state",
            sa.Enum("running", "succeeded", "failed", "cancelled", "lost", name="stepstate", **Checked),
            server_default="running",
            nullable=False,
        ),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("components", Json, nullable=True),
        sa.Column("computes", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("result", Json, nullable=True),
        sa.Column("error", Json, nullable=True),
        sa.Column("detail", Json, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_since", Moment, nullable=True),
        sa.Column("started_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("reported_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.CheckConstraint("(state = 'running') = (finished_at is null)", name=op.f("ck_step_run_finished")),
        sa.CheckConstraint("(state = 'succeeded') = (result is not null)", name=op.f("ck_step_run_result")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_step_run_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_run")),
        sa.UniqueConstraint("run_id", "round", "step", name=op.f("uq_step_run_run_id_round_step")),
    )
    op.create_index(
        "ix_step_run_result",
        "step_run",
        ["tenant", "key", "finished_at"],
        unique=False,
        postgresql_where=sa.text("computes and state = 'succeeded'"),
    )
    op.create_index(
        "uq_step_run_computing", "step_run", ["tenant", "key"], unique=True, postgresql_where=sa.text("computes and state = 'running'")
    )
    op.create_table(
        "checkpoint",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("files", Json, nullable=False),
        sa.Column("recorded_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_checkpoint_step_run_id")),
        sa.PrimaryKeyConstraint("step_run_id", "epoch", "round", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "dataset_version",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("manifest_id", sa.Uuid(), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("source", Json, nullable=True),
        sa.Column("delta_uri", sa.Text(), nullable=True),
        sa.Column("delta_version", sa.Integer(), nullable=True),
        sa.Column("columns", Json, nullable=False),
        sa.Column("classes", Json, nullable=False),
        sa.Column("train_rows", sa.BigInteger(), nullable=False),
        sa.Column("test_rows", sa.BigInteger(), nullable=False),
        sa.Column("quarantined_rows", sa.BigInteger(), nullable=False),
        sa.Column("pool_rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("labeled_rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_dataset_version_number")),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_dataset_version_dataset_id")),
        sa.ForeignKeyConstraint(["manifest_id"], ["artifact.id"], name=op.f("fk_dataset_version_manifest_id")),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_dataset_version_step_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
        sa.UniqueConstraint("dataset_id", "manifest_sha256", name=op.f("uq_dataset_version_dataset_id_manifest_sha256")),
        sa.UniqueConstraint("dataset_id", "number", name=op.f("uq_dataset_version_dataset_id_number")),
    )
    op.create_index(op.f("ix_dataset_version_step_run_id"), "dataset_version", ["step_run_id"], unique=False)
    op.create_table(
        "metric",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("round", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("recorded_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_metric_step_run_id")),
        sa.PrimaryKeyConstraint("step_run_id", "round", "name", name=op.f("pk_metric")),
    )
    op.create_table(
        "partition",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("result", Json, nullable=False),
        sa.Column("committed_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_partition_step_run_id")),
        sa.PrimaryKeyConstraint("step_run_id", "phase", "index", name=op.f("pk_partition")),
    )
    op.create_index("ix_partition_key", "partition", ["tenant", "key"], unique=False, postgresql_where=sa.text("key is not null"))
    op.create_table(
        "submission",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("open", "succeeded", "failed", "stalled", "lost", "stopped", name="submissionstate", **Checked),
            server_default="open",
            nullable=False,
        ),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("started_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.CheckConstraint("(state = 'open') = (finished_at is null)", name=op.f("ck_submission_finished")),
        sa.CheckConstraint("number > 0", name=op.f("ck_submission_number")),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_submission_step_run_id")),
        sa.PrimaryKeyConstraint("step_run_id", "name", "number", name=op.f("pk_submission")),
        sa.UniqueConstraint("job_id", name=op.f("uq_submission_job_id")),
    )
    op.create_index("ix_submission_open", "submission", ["step_run_id"], unique=False, postgresql_where=sa.text("state = 'open'"))
    op.create_table(
        "dataset_profile",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_dataset_profile_artifact_id")),
        sa.ForeignKeyConstraint(["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_dataset_profile_dataset_version_id")),
        sa.PrimaryKeyConstraint("dataset_version_id", name=op.f("pk_dataset_profile")),
    )
    op.create_table(
        "model_version",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("predictor_id", sa.Uuid(), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_model_version_number")),
        sa.ForeignKeyConstraint(["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_model_version_dataset_version_id")),
        sa.ForeignKeyConstraint(["predictor_id"], ["artifact.id"], name=op.f("fk_model_version_predictor_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_model_version_run_id")),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_model_version_step_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("step_run_id", name=op.f("uq_model_version_step_run_id")),
        sa.UniqueConstraint("tenant", "model", "number", name=op.f("uq_model_version_tenant_model_number")),
    )
    op.create_index(op.f("ix_model_version_dataset_version_id"), "model_version", ["dataset_version_id"], unique=False)
    op.create_index(op.f("ix_model_version_run_id"), "model_version", ["run_id"], unique=False)
    op.create_table(
        "validation_result",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("column", sa.Text(), nullable=True),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("example", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_validation_result_dataset_version_id")),
        sa.PrimaryKeyConstraint("dataset_version_id", "position", name=op.f("pk_validation_result")),
    )
    op.create_table(
        "evaluation",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("step_run_id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=False),
        sa.Column("champion_version_id", sa.Uuid(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("metrics", Json, nullable=False),
        sa.Column("evidence_sha256", sa.Text(), nullable=False),
        sa.Column("scores_id", sa.Uuid(), nullable=True),
        sa.Column("human", Json, nullable=True),
        sa.Column("labels_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["champion_version_id"], ["model_version.id"], name=op.f("fk_evaluation_champion_version_id")),
        sa.ForeignKeyConstraint(["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_evaluation_dataset_version_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_evaluation_model_version_id")),
        sa.ForeignKeyConstraint(["labels_id"], ["artifact.id"], name=op.f("fk_evaluation_labels_id")),
        sa.ForeignKeyConstraint(["scores_id"], ["artifact.id"], name=op.f("fk_evaluation_scores_id")),
        sa.ForeignKeyConstraint(["step_run_id"], ["step_run.id"], name=op.f("fk_evaluation_step_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("step_run_id", name=op.f("uq_evaluation_step_run_id")),
    )
    op.create_index(op.f("ix_evaluation_model_version_id"), "evaluation", ["model_version_id"], unique=False)
    op.create_table(
        "model_event",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind", sa.Enum("trained", "evaluated", "refused", "released", "retired", name="modeleventkind", **Checked), nullable=False
        ),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_model_event_model_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_event")),
    )
    op.create_index(op.f("ix_model_event_model_version_id_at"), "model_event", ["model_version_id", "at"], unique=False)
    op.create_table(
        "tag",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_tag_model_version_id")),
        sa.PrimaryKeyConstraint("model_version_id", "key", name=op.f("pk_tag")),
    )
    op.create_index(op.f("ix_tag_tenant_key_value"), "tag", ["tenant", "key", "value"], unique=False)
    op.create_table(
        "evaluation_metric",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Enum("challenger", "champion", name="evaluationsubject", **Checked), nullable=False),
        sa.Column("slice_column", sa.Text(), server_default="", nullable=False),
        sa.Column("slice_value", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_evaluation_metric_evaluation_id")),
        sa.PrimaryKeyConstraint("evaluation_id", "subject", "slice_column", "slice_value", "name", name=op.f("pk_evaluation_metric")),
    )
    op.create_table(
        "gate_verdict",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("gate", Json, nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("champion_value", sa.Double(), nullable=True),
        sa.Column("slice", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_gate_verdict_evaluation_id")),
        sa.PrimaryKeyConstraint("evaluation_id", "position", name=op.f("pk_gate_verdict")),
    )
    op.create_table(
        "promotion",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("evaluation_id", sa.Uuid(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("state", sa.Enum("open", "released", "refused", name="promotionstate", **Checked), server_default="open", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("opened_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", Moment, nullable=True),
        sa.CheckConstraint("(state = 'open') = (closed_at is null)", name=op.f("ck_promotion_closed")),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name=op.f("fk_promotion_evaluation_id")),
        sa.ForeignKeyConstraint(["id"], ["step_run.id"], name=op.f("fk_promotion_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_promotion_model_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.create_index(op.f("ix_promotion_model_version_id"), "promotion", ["model_version_id"], unique=False)
    op.create_table(
        "approval",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("promotion_id", sa.Uuid(), nullable=False),
        sa.Column("evidence_sha256", sa.Text(), nullable=False),
        sa.Column("required", sa.Integer(), nullable=False),
        sa.Column("approvers", Json, nullable=False),
        sa.Column("unauthenticated_counts", sa.Boolean(), nullable=False),
        sa.Column(
            "status",
            sa.Enum("open", "approved", "rejected", "closed", name="approvalstatus", **Checked),
            server_default="open",
            nullable=False,
        ),
        sa.Column("deadline", Moment, nullable=False),
        sa.Column("opened_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("required > 0", name=op.f("ck_approval_required")),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotion.id"], name=op.f("fk_approval_promotion_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
        sa.UniqueConstraint("promotion_id", name=op.f("uq_approval_promotion_id")),
    )
    op.create_table(
        "release",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version_id", sa.Uuid(), nullable=False),
        sa.Column("promotion_id", sa.Uuid(), nullable=True),
        sa.Column("since", Moment, nullable=False),
        sa.Column("until", Moment, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("until > since", name=op.f("ck_release_interval")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_release_model_version_id")),
        sa.ForeignKeyConstraint(["promotion_id"], ["promotion.id"], name=op.f("fk_release_promotion_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint("promotion_id", name=op.f("uq_release_promotion_id")),
    )
    op.create_index(op.f("ix_release_model_version_id"), "release", ["model_version_id"], unique=False)
    op.create_index(op.f("ix_release_tenant_model_since"), "release", ["tenant", "model", "since"], unique=False)
    op.create_index("uq_release_open", "release", ["tenant", "model"], unique=True, postgresql_where=sa.text("until is null"))
    op.create_table(
        "approval_vote",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("approval_id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("decision", sa.Enum("approve", "reject", name="votedecision", **Checked), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"], name=op.f("fk_approval_vote_approval_id")),
        sa.PrimaryKeyConstraint("approval_id", "actor", name=op.f("pk_approval_vote")),
    )


def downgrade() -> None:
    op.drop_table("approval_vote")
    op.drop_index("uq_release_open", table_name="release", postgresql_where=sa.text("until is null"))
    op.drop_index(op.f("ix_release_tenant_model_since"), table_name="release")
    op.drop_index(op.f("ix_release_model_version_id"), table_name="release")
    op.drop_table("release")
    op.drop_table("approval")
    op.drop_index(op.f("ix_promotion_model_version_id"), table_name="promotion")
    op.drop_table("promotion")
    op.drop_table("gate_verdict")
    op.drop_table("evaluation_metric")
    op.drop_index(op.f("ix_tag_tenant_key_value"), table_name="tag")
    op.drop_table("tag")
    op.drop_index(op.f("ix_model_event_model_version_id_at"), table_name="model_event")
    op.drop_table("model_event")
    op.drop_index(op.f("ix_evaluation_model_version_id"), table_name="evaluation")
    op.drop_table("evaluation")
    op.drop_table("validation_result")
    op.drop_index(op.f("ix_model_version_run_id"), table_name="model_version")
    op.drop_index(op.f("ix_model_version_dataset_version_id"), table_name="model_version")
    op.drop_table("model_version")
    op.drop_table("dataset_profile")
    op.drop_index("ix_submission_open", table_name="submission", postgresql_where=sa.text("state = 'open'"))
    op.drop_table("submission")
    op.drop_index("ix_partition_key", table_name="partition", postgresql_where=sa.text("key is not null"))
    op.drop_table("partition")
    op.drop_table("metric")
    op.drop_index(op.f("ix_dataset_version_step_run_id"), table_name="dataset_version")
    op.drop_table("dataset_version")
    op.drop_table("checkpoint")
    op.drop_index("uq_step_run_computing", table_name="step_run", postgresql_where=sa.text("computes and state = 'running'"))
    op.drop_index("ix_step_run_result", table_name="step_run", postgresql_where=sa.text("computes and state = 'succeeded'"))
    op.drop_table("step_run")
    op.drop_index(op.f("ix_run_tenant_started_at"), table_name="run")
    op.drop_index(op.f("ix_run_pipeline_version_id"), table_name="run")
    op.drop_index("ix_run_live", table_name="run", postgresql_where=sa.text("state in ('running', 'paused')"))
    op.drop_table("run")
    op.drop_index("uq_pipeline_version_newest", table_name="pipeline_version", postgresql_where=sa.text("newest"))
    op.drop_table("pipeline_version")
    op.drop_index(op.f("ix_artifact_input_input_id"), table_name="artifact_input")
    op.drop_table("artifact_input")
    op.drop_table("projection")
    op.drop_table("dataset")
    op.drop_index("uq_audit_command", table_name="audit", postgresql_where=sa.text("command_id is not null"))
    op.drop_index(op.f("ix_audit_tenant_object_id"), table_name="audit")
    op.drop_table("audit")
    op.drop_index(op.f("ix_artifact_sha256"), table_name="artifact")
    op.drop_table("artifact")
