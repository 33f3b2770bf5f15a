"""The compute engine where no Ray is configured: refuses clearly."""

from __future__ import annotations

from typing import NoReturn

from perdure.errors import ResourcesUnavailable
from perdure.messages.jobs import JobState, Submission


class NoRay:
    """Port `Compute` without a cluster behind it."""

    def submit(self, submission: Submission) -> None:
        """Raise ResourcesUnavailable."""
        self._refuse()

    def state(self, submission_id: str) -> JobState:
        """Raise ResourcesUnavailable."""
        self._refuse()

    def stop(self, submission_id: str) -> None:
        """Nothing can run here."""

    def logs(self, submission_id: str) -> str:
        """No output."""
        return ""

    def _refuse(self) -> NoReturn:
        raise ResourcesUnavailable(
            "this training asks for Ray, but no Ray cluster is configured",
            field="train.engine",
            remedy="set PERDURE_RAY__URL to the cluster's Jobs API, or use `engine: local`",
        )
