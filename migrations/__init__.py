"""The schema's history: Alembic revisions, forward and back."""
