"""Views that answer who served when, made of what, released by whom; and an audit that nobody can rewrite."""

from __future__ import annotations

from alembic import op

revision = "8b2f6d30c5ea"
down_revision = "4c1e0a7b9d21"
branch_labels = None
depends_on = None

RELEASE_HISTORY = """
CREATE VIEW release_history AS
SELECT r.tenant, r.model, v.number AS version, r.since, r.until, r.actor, r.reason,
       coalesce(votes.votes, '[]'::jsonb) AS votes,
       p.requested_by, e.evidence_sha256, e.metrics,
       a.sha256 AS predictor_sha256, a.uri AS predictor_uri,
       r.id AS release_id, v.id AS model_version_id
FROM release r
JOIN model_version v ON v.id = r.model_version_id
JOIN artifact a ON a.id = v.predictor_id
LEFT JOIN promotion p ON p.id = r.promotion_id
LEFT JOIN evaluation e ON e.id = p.evaluation_id
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_object('actor', w.actor, 'decision', w.decision, 'reason', w.reason, 'channel', w.channel, 'at', w.at)
                     ORDER BY w.at, w.actor) AS votes
    FROM approval q JOIN approval_vote w ON w.approval_id = q.id
    WHERE q.promotion_id = p.id
) votes ON true
"""

MODEL_ORIGIN = """
CREATE VIEW model_origin AS
SELECT v.tenant, v.model, v.number AS version, v.created_at AS trained_at, u.workflow_id AS run, u.requested_by,
       w.name AS pipeline, w.number AS pipeline_version, w.sha256 AS pipeline_sha256, w.git_commit,
       c.sha256 AS code_sha256, c.uri AS code_uri,
       d.name AS dataset, n.number AS dataset_version, m.sha256 AS manifest_sha256, m.uri AS manifest_uri, n.source, n.train_rows,
       u.spec -> 'data' AS data, u.spec -> 'train' AS train, s.components -> 'environment' AS environment,
       v.rounds, v.metrics, a.sha256 AS predictor_sha256, a.uri AS predictor_uri,
       v.id AS model_version_id, v.run_id
FROM model_version v
JOIN artifact a ON a.id = v.predictor_id
JOIN step_run s ON s.id = v.step_run_id
JOIN run u ON u.id = v.run_id
JOIN pipeline_version w ON w.id = u.pipeline_version_id
LEFT JOIN artifact c ON c.id = w.code_id
JOIN dataset_version n ON n.id = v.dataset_version_id
JOIN dataset d ON d.id = n.dataset_id
JOIN artifact m ON m.id = n.manifest_id
"""

REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$
"""


def upgrade() -> None:
    op.execute(RELEASE_HISTORY)
    op.execute(MODEL_ORIGIN)
    op.execute(REFUSE_CHANGE)
    op.execute("CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit EXECUTE FUNCTION refuse_change()")


def downgrade() -> None:
    op.execute("DROP TRIGGER append_only ON audit")
    op.execute("DROP FUNCTION refuse_change()")
    op.execute("DROP VIEW model_origin")
    op.execute("DROP VIEW release_history")
