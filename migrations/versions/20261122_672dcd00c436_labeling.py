"""Campaigns, tasks, answers and their decisions; inbox, outbox, and who may call."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "672dcd00c436"
down_revision = "8b2f6d30c5ea"
branch_labels = None
depends_on = None

Json = JSONB(none_as_null=True)
Checked = {"native_enum": False, "create_constraint": True, "length": 32}  # text with a CHECK
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("scopes", Json, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.Column("revoked_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_api_key_key_sha256")),
    )
    op.create_index(op.f("ix_api_key_principal"), "api_key", ["principal"], unique=False)
    op.create_table(
        "browser_session",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("link_sha256", sa.Text(), nullable=False),
        sa.Column("link_expires_at", Moment, nullable=False),
        sa.Column("cookie_sha256", sa.Text(), nullable=True),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], name=op.f("fk_browser_session_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_session")),
        sa.UniqueConstraint("cookie_sha256", name=op.f("uq_browser_session_cookie_sha256")),
        sa.UniqueConstraint("link_sha256", name=op.f("uq_browser_session_link_sha256")),
    )
    op.create_index(op.f("ix_browser_session_key_id"), "browser_session", ["key_id"], unique=False)
    op.create_table(
        "campaign",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("state", sa.Enum("open", "paused", "closed", name="campaignstate", **Checked), server_default="open", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("deadline", Moment, nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("decided", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rejected", sa.Integer(), server_default="0", nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("measured", Json, nullable=True),
        sa.Column("closed_reason", sa.Text(), nullable=True),
        sa.Column("opened_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", Moment, nullable=True),
        sa.CheckConstraint("(state = 'closed') = (closed_at is not null)", name=op.f("ck_campaign_closed")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_campaign_tenant_name")),
        sa.UniqueConstraint("tenant", "workflow_id", name=op.f("uq_campaign_tenant_workflow_id")),
    )
    op.create_table(
        "idempotent_request",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response", Json, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotent_request")),
    )
    op.create_index(op.f("ix_idempotent_request_created_at"), "idempotent_request", ["created_at"], unique=False)
    op.create_table(
        "labeler",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("model", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "status", sa.Enum("active", "warned", "blocked", name="labelerstatus", **Checked), server_default="active", nullable=False
        ),
        sa.Column("status_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("gold_right", sa.Integer(), server_default="0", nullable=False),
        sa.Column("gold_wrong", sa.Integer(), server_default="0", nullable=False),
        sa.Column("requeue_due", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labeler")),
        sa.UniqueConstraint("tenant", "principal", name=op.f("uq_labeler_tenant_principal")),
    )
    op.create_table(
        "outbox",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["due_at", "id"], unique=False, postgresql_where=sa.text("sent_at is null"))
    op.create_index("ix_outbox_sent", "outbox", ["sent_at"], unique=False, postgresql_where=sa.text("sent_at is not null"))
    op.create_table(
        "campaign_event",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("detail", Json, nullable=False),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_campaign_event_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_event")),
        sa.UniqueConstraint("campaign_id", "key", name=op.f("uq_campaign_event_campaign_id_key")),
    )
    op.create_table(
        "hook",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column(
            "provider",
            sa.Enum("standard", "labelstudio", "slack", "events", "alertmanager", "signal", name="hookprovider", **Checked),
            nullable=False,
        ),
        sa.Column("campaign_id", sa.Uuid(), nullable=True),
        sa.Column("secrets", Json, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("retired_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_hook_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hook")),
    )
    op.create_table(
        "label_snapshot",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("statistics", Json, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_label_snapshot_artifact_id")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_label_snapshot_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_snapshot")),
        sa.UniqueConstraint("campaign_id", "number", name=op.f("uq_label_snapshot_campaign_id_number")),
        sa.UniqueConstraint("campaign_id", "sha256", name=op.f("uq_label_snapshot_campaign_id_sha256")),
    )
    op.create_table(
        "task_import",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", Json, nullable=True),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_task_import_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_import")),
    )
    op.create_index(op.f("ix_task_import_campaign_id"), "task_import", ["campaign_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Enum("processed", "quarantined", name="deliverystate", **Checked), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("received_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("processed_at", Moment, nullable=True),
        sa.CheckConstraint("(state = 'processed') = (processed_at is not null)", name=op.f("ck_delivery_processed")),
        sa.ForeignKeyConstraint(["hook_id"], ["hook.id"], name=op.f("fk_delivery_hook_id")),
        sa.PrimaryKeyConstraint("hook_id", "key", name=op.f("pk_delivery")),
    )
    op.create_index(op.f("ix_delivery_received_at"), "delivery", ["received_at"], unique=False)
    op.create_index("ix_delivery_unprocessed", "delivery", ["received_at"], unique=False, postgresql_where=sa.text("state <> 'processed'"))
    op.create_table(
        "withdrawal",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_withdrawal_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "source", "source_key", name=op.f("pk_withdrawal")),
    )
    op.create_table(
        "task",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("priority", sa.Double(), server_default="0", nullable=False),
        sa.Column(
            "state",
            sa.Enum("open", "full", "disputed", "decided", "rejected", name="taskstate", **Checked),
            server_default="open",
            nullable=False,
        ),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("n_valid", sa.Integer(), server_default="0", nullable=False),
        sa.Column("n_skip", sa.Integer(), server_default="0", nullable=False),
        sa.Column("gold", Json, nullable=True),
        sa.Column("prediction", Json, nullable=True),
        sa.Column("assist", sa.Enum("accept", "audit", name="assist", **Checked), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_task_campaign_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_task_model_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("campaign_id", "key", name=op.f("uq_task_campaign_id_key")),
    )
    op.create_index(
        "ix_task_assisted",
        "task",
        ["campaign_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'open' and assist = 'accept'"),
    )
    op.create_index("ix_task_gold", "task", ["campaign_id"], unique=False, postgresql_where=sa.text("gold is not null"))
    op.create_index(
        "ix_task_audited", "task", ["campaign_id"], unique=False, postgresql_where=sa.text("state = 'decided' and assist = 'audit'")
    )
    op.create_index("ix_task_disputed", "task", ["campaign_id", "id"], unique=False, postgresql_where=sa.text("state = 'disputed'"))
    op.create_index("ix_task_full", "task", ["campaign_id", "id"], unique=False, postgresql_where=sa.text("state = 'full'"))
    op.create_index(
        "ix_task_open", "task", ["campaign_id", sa.text("priority desc"), "id"], unique=False, postgresql_where=sa.text("state = 'open'")
    )
    op.create_table(
        "assignment",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("labeler_id", sa.Uuid(), nullable=False),
        sa.Column(
            "state", sa.Enum("leased", "submitted", "skipped", "released", "expired", name="assignmentstate", **Checked), nullable=False
        ),
        sa.Column("lease_token", sa.Uuid(), nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("prediction_shown", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["labeler_id"], ["labeler.id"], name=op.f("fk_assignment_labeler_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_assignment_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
    )
    op.create_index("ix_assignment_leased", "assignment", ["labeler_id"], unique=False, postgresql_where=sa.text("state = 'leased'"))
    op.create_index(op.f("ix_assignment_task_id"), "assignment", ["task_id"], unique=False)
    op.create_index(
        "uq_assignment_held",
        "assignment",
        ["task_id", "labeler_id"],
        unique=True,
        postgresql_where=sa.text("state in ('leased', 'submitted')"),
    )
    op.create_table(
        "decision",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("label", Json, nullable=False),
        sa.Column("posterior", sa.Double(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("inputs_sha256", sa.Text(), nullable=False),
        sa.Column("weights", Json, nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_decision_campaign_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_decision_task_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_campaign_id"), "decision", ["campaign_id"], unique=False)
    op.create_table(
        "annotation",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("labeler_id", sa.Uuid(), nullable=False),
        sa.Column("assignment_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("value", Json, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("prediction_shown", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "status",
            sa.Enum("valid", "superseded", "late", "skipped", "blocked", "deleted", name="annotationstatus", **Checked),
            nullable=False,
        ),
        sa.Column("judged", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("event_time", Moment, nullable=False),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_annotation_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
        sa.UniqueConstraint(
            "campaign_id", "source", "source_key", "revision", name=op.f("uq_annotation_campaign_id_source_source_key_revision")
        ),
    )
    op.create_index(op.f("ix_annotation_labeler_id_created_at"), "annotation", ["labeler_id", "created_at"], unique=False)
    op.create_index(
        "uq_annotation_standing",
        "annotation",
        ["task_id", "labeler_id"],
        unique=True,
        postgresql_where=sa.text("status in ('valid', 'skipped')"),
    )
    op.create_index("uq_annotation_judged", "annotation", ["task_id", "labeler_id"], unique=True, postgresql_where=sa.text("judged"))
    op.create_table(
        "external_project",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("project", sa.BigInteger(), nullable=True),
        sa.Column("watermark", Moment, nullable=True),
        sa.Column("asked_at", Moment, nullable=True),
        sa.Column("sending_problem", sa.Text(), nullable=True),
        sa.Column("reading_problem", sa.Text(), nullable=True),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_external_project_campaign_id")),
        sa.ForeignKeyConstraint(["hook_id"], ["hook.id"], name=op.f("fk_external_project_hook_id")),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("pk_external_project")),
    )
    op.create_table(
        "external_ref",
        sa.Column("tenant", sa.Text(), server_default="default", nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.BigInteger(), nullable=True),
        sa.Column("overlap", sa.Integer(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", Moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_external_ref_campaign_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_external_ref_task_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_external_ref")),
    )
    op.create_index(op.f("ix_external_ref_campaign_id"), "external_ref", ["campaign_id"], unique=False)
    op.create_index(
        "ix_external_ref_unsure",
        "external_ref",
        ["campaign_id"],
        unique=False,
        postgresql_where=sa.text("external_id is null and problem is null"),
    )


def downgrade() -> None:
    op.drop_table("external_ref")
    op.drop_table("external_project")
    op.drop_index("uq_annotation_judged", table_name="annotation", postgresql_where=sa.text("judged"))
    op.drop_index("uq_annotation_standing", table_name="annotation", postgresql_where=sa.text("status in ('valid', 'skipped')"))
    op.drop_index(op.f("ix_annotation_labeler_id_created_at"), table_name="annotation")
    op.drop_table("annotation")
    op.drop_index(op.f("ix_decision_campaign_id"), table_name="decision")
    op.drop_table("decision")
    op.drop_index("uq_assignment_held", table_name="assignment", postgresql_where=sa.text("state in ('leased', 'submitted')"))
    op.drop_index(op.f("ix_assignment_task_id"), table_name="assignment")
    op.drop_index("ix_assignment_leased", table_name="assignment", postgresql_where=sa.text("state = 'leased'"))
    op.drop_table("assignment")
    op.drop_index("ix_task_open", table_name="task", postgresql_where=sa.text("state = 'open'"))
    op.drop_index("ix_task_full", table_name="task", postgresql_where=sa.text("state = 'full'"))
    op.drop_index("ix_task_assisted", table_name="task", postgresql_where=sa.text("state = 'open' and assist = 'accept'"))
    op.drop_index("ix_task_gold", table_name="task", postgresql_where=sa.text("gold is not null"))
    op.drop_index("ix_task_audited", table_name="task", postgresql_where=sa.text("state = 'decided' and assist = 'audit'"))
    op.drop_index("ix_task_disputed", table_name="task", postgresql_where=sa.text("state = 'disputed'"))
    op.drop_table("task")
    op.drop_table("withdrawal")
    op.drop_index("ix_delivery_unprocessed", table_name="delivery", postgresql_where=sa.text("state <> 'processed'"))
    op.drop_index(op.f("ix_delivery_received_at"), table_name="delivery")
    op.drop_table("delivery")
    op.drop_index(op.f("ix_task_import_campaign_id"), table_name="task_import")
    op.drop_table("task_import")
    op.drop_table("label_snapshot")
    op.drop_table("hook")
    op.drop_table("campaign_event")
    op.drop_index("ix_outbox_sent", table_name="outbox", postgresql_where=sa.text("sent_at is not null"))
    op.drop_index("ix_outbox_unsent", table_name="outbox", postgresql_where=sa.text("sent_at is null"))
    op.drop_table("outbox")
    op.drop_table("labeler")
    op.drop_index(op.f("ix_idempotent_request_created_at"), table_name="idempotent_request")
    op.drop_table("idempotent_request")
    op.drop_table("campaign")
    op.drop_index(op.f("ix_browser_session_key_id"), table_name="browser_session")
    op.drop_table("browser_session")
    op.drop_index(op.f("ix_api_key_principal"), table_name="api_key")
    op.drop_table("api_key")
