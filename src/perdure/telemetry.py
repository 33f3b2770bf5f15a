"""Structured logs: one JSON object a line, with the ids of what it is about."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from perdure.errors import bounded

_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTEXT = {"temporal_workflow", "temporal_activity"}
_KEPT = {"workflow_id": "workflow_id", "run_id": "temporal_run_id", "workflow_type": "workflow_type", "activity_type": "activity"}


class JsonFormatter(logging.Formatter):
    """One line a record: time, level, logger, message, the Temporal ids, and what was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; texts are bounded."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": bounded(record.getMessage()),
        }
        for name in _CONTEXT:
            context = getattr(record, name, None)
            if isinstance(context, dict):
                line |= {ours: context[theirs] for theirs, ours in _KEPT.items() if theirs in context}
                line |= {"attempt": context["attempt"]} if name == "temporal_activity" and "attempt" in context else {}
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in _CONTEXT}
        if record.exc_info:
            line["exception"] = bounded(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logs(level: str = "INFO") -> None:
    """Send every logger of this process to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per poll of Ray says nothing
    # The SDK appends its context to the message by default; it stands in fields of its own here.
    from temporalio import activity, workflow

    activity.logger.activity_info_on_message = False
    workflow.logger.workflow_info_on_message = False
