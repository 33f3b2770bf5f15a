"""Port `Compute` on Ray's Jobs REST API; the worker needs no Ray.

Source of the protocol: https://docs.ray.io/en/releases-2.60.0/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import shlex
import time
from typing import Any

import httpx

from perdure.config import RaySettings, resolve_secret
from perdure.errors import AccessDenied, ClusterUnavailable, ResourcesUnavailable, bounded
from perdure.jobs import capacity
from perdure.messages.jobs import JobState, JobStatus, Resources, Submission

_STATUS = {status.name: status for status in JobStatus}
_ANSWER = 10.0  # seconds that a request may take
_SUBMISSION = 60.0  # the same for a submission, which may wait for the node's job agent
_STOP = 60.0  # seconds until a stopped job must be gone; Ray itself gives it 3 s before SIGKILL
_SETTLED = 60.0  # seconds after which a head is expected to know its nodes
_LOG_LINES, _LOG_CHARS = 500, 64 << 10


class RayJobs:
    """One cluster. Thread-safe. Every method raises ClusterUnavailable or AccessDenied."""

    def __init__(self, settings: RaySettings) -> None:
        if settings.url is None:
            raise ValueError("settings.ray.url is not set")
        self._python = settings.python
        self._url = settings.url.rstrip("/")
        headers = {"Authorization": f"Bearer {resolve_secret(settings.token)}"} if settings.token else {}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=httpx.Timeout(_ANSWER, connect=3.0))

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self._http.close()

    # --- port Compute ------------------------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> None:
        """Start the job; a known id is a no-op. Raises ResourcesUnavailable where the cluster can never hold its workers."""
        if self._find(submission.id) is not None:
            return
        self._check(submission.resources)
        entrypoint = shlex.join([self._python, "-m", "perdure.jobs.main", submission.request.uri, submission.request.sha256])
        answer = self._request(
            "POST",
            "/api/jobs/",
            # `exec`, so that the job's parent is Ray's supervisor, with which it dies. Credentials come from the node, never from here.
            json={"submission_id": submission.id, "entrypoint": f"exec {entrypoint}", "entrypoint_num_cpus": 0},
            timeout=_SUBMISSION,
        )
        if answer.status_code != 200 and self._find(submission.id) is None:  # else another attempt was faster
            raise self._unavailable(answer)

    def state(self, submission_id: str) -> JobState:
        """One look."""
        if (job := self._find(submission_id)) is None:
            return JobState(status=JobStatus.UNKNOWN)
        status = _STATUS.get(str(job["status"]), JobStatus.RUNNING)
        message = "" if status.is_active else str(job.get("message") or "")[-2_000:]
        return JobState(status=status, exit_code=job.get("driver_exit_code"), message=message)

    def stop(self, submission_id: str) -> None:
        """End it, and wait until the job and all its actors are gone; unknown and ended ids are a no-op."""
        if (job := self._find(submission_id)) is None or not _active(job):
            return
        self._request("POST", f"/api/jobs/{submission_id}/stop")
        deadline = time.monotonic() + _STOP
        while _active(job) or self._actors(job):
            if time.monotonic() > deadline:
                raise ClusterUnavailable(
                    f"job {submission_id} is not gone {_STOP:g} s after it was stopped", remedy="look at the Ray head's log"
                )
            time.sleep(0.1)
            if (found := self._find(submission_id)) is None:
                return
            job = found

    def logs(self, submission_id: str) -> str:
        """The end of its output, at most 64 KiB; empty where Ray keeps none."""
        if (job := self._find(submission_id)) is None or not job.get("driver_node_id"):
            return ""
        query = {"node_id": job["driver_node_id"], "filename": f"job-driver-{submission_id}.log", "lines": _LOG_LINES}
        answer = self._request("GET", "/api/v0/logs/file", params={**query, "filter_ansi_code": "true"})
        return answer.text[-_LOG_CHARS:] if answer.status_code == 200 else ""

    # --- the cluster -------------------------------------------------------------------------------------------------

    def _check(self, resources: Resources) -> None:
        """Refuse what no node has, unless the head is so young that it may not know its nodes yet, or an autoscaler adds nodes."""
        nodes = self._json("/api/v0/nodes", detail="true")["data"]["result"]["result"]
        alive = [node for node in nodes if node["state"] == "ALIVE"]
        try:
            capacity.check([node["resources_total"] for node in alive], resources)
        except ResourcesUnavailable:
            if self._json("/api/cluster_status")["data"]["autoscalingStatus"] is not None:
                return
            started = max((node["start_time_ms"] for node in alive if node["is_head_node"]), default=None)
            if started is None or time.time() - started / 1000 < _SETTLED:
                raise ClusterUnavailable("the Ray head has just started and may not know all its nodes yet") from None
            raise

    def _find(self, submission_id: str) -> dict[str, Any] | None:
        answer = self._request("GET", f"/api/jobs/{submission_id}")
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._unavailable(answer)
        return dict(answer.json())

    def _actors(self, job: dict[str, Any]) -> bool:
        """Whether actors of the job are still there."""
        if not job.get("job_id"):
            return False
        query = {"filter_keys": ["job_id", "state"], "filter_predicates": ["=", "!="], "filter_values": [job["job_id"], "DEAD"]}
        return bool(self._json("/api/v0/actors", **query)["data"]["result"]["result"])

    def _json(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self._request("GET", path, params=params)
        if answer.status_code != 200:
            raise self._unavailable(answer)
        return dict(answer.json())

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **kwargs)
        except httpx.HTTPError as err:
            raise ClusterUnavailable(
                f"Ray at {self._url} does not answer: {type(err).__name__}", remedy="see that the Ray head runs: perdure doctor"
            ) from err
        if answer.status_code in (401, 403):
            raise AccessDenied(
                f"Ray at {self._url} refused the token", field="ray.token", remedy="set ray.token to the cluster's token (RAY_AUTH_TOKEN)"
            )
        return answer

    def _unavailable(self, answer: httpx.Response) -> ClusterUnavailable:
        return ClusterUnavailable(f"Ray at {self._url} answered {answer.status_code}: {bounded(answer.text, 300)}")


def _active(job: dict[str, Any]) -> bool:
    return job["status"] in ("PENDING", "RUNNING")
