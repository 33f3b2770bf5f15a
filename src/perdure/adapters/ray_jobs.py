"""Port `Compute` on Ray's Jobs REST API; the worker needs no Ray.

Source of the protocol: https://docs.ray.io/en/releases-2.60.0/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import json
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
_LOG_BYTES = 64 << 10


class RayJobs:
    """One cluster. Thread-safe. Every method raises ClusterUnavailable or AccessDenied."""

    def __init__(self, settings: RaySettings) -> None:
        if settings.url is None:
            raise ValueError("settings.ray.url is not set")
        self._python, self._autoscales = settings.python, settings.autoscales
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
            json={
                "submission_id": submission.id,
                "entrypoint": f"exec {entrypoint}",
                "entrypoint_num_cpus": submission.resources.driver_cpus,
            },
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
        kept = b""
        try:
            with self._http.stream("GET", f"/api/jobs/{submission_id}/logs", timeout=_SUBMISSION) as answer:
                if answer.status_code != 200:
                    return ""
                for part in answer.iter_bytes():  # Ray sends all of it, as one JSON string
                    kept = (kept + part)[-2 * _LOG_BYTES :]
        except httpx.HTTPError as err:
            raise self._silent(err) from err
        return _end_of_json(kept, "logs")[-_LOG_BYTES:]

    # --- the cluster -------------------------------------------------------------------------------------------------

    def _check(self, resources: Resources) -> None:
        """Refuse what no node has, unless the cluster adds nodes, or its head is so young that it may not know all of them yet."""
        summary = self._request("GET", "/nodes", params={"view": "summary"})
        if self._autoscales or summary.status_code != 200:
            return  # the job waits for workers, and people see that
        nodes = [node["raylet"] for node in summary.json()["data"]["summary"] if node["raylet"].get("state") == "ALIVE"]
        try:
            capacity.check([node.get("resourcesTotal", {}) for node in nodes], resources)
        except ResourcesUnavailable:
            started = [int(node["startTimeMs"]) / 1000 for node in nodes if node.get("isHeadNode")]
            if not started or time.time() - started[0] < _SETTLED:
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
        answer = self._request("GET", "/logical/actors")
        if not job.get("job_id") or answer.status_code != 200:
            return False
        actors = answer.json()["data"]["actors"].values()
        return any(actor["jobId"] == job["job_id"] and actor["state"] != "DEAD" for actor in actors)

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **kwargs)
        except httpx.HTTPError as err:
            raise self._silent(err) from err
        if answer.status_code in (401, 403):
            raise AccessDenied(
                f"Ray at {self._url} refused the token", field="ray.token", remedy="set ray.token to the cluster's token (RAY_AUTH_TOKEN)"
            )
        return answer

    def _silent(self, err: httpx.HTTPError) -> ClusterUnavailable:
        return ClusterUnavailable(
            f"Ray at {self._url} does not answer: {type(err).__name__}", remedy="see that the Ray head runs: perdure doctor"
        )

    def _unavailable(self, answer: httpx.Response) -> ClusterUnavailable:
        return ClusterUnavailable(f"Ray at {self._url} answered {answer.status_code}: {bounded(answer.text, 300)}")


def _active(job: dict[str, Any]) -> bool:
    return job["status"] in ("PENDING", "RUNNING")


def _end_of_json(body: bytes, field: str) -> str:
    """The string of ``{"field": "…"}``, of which *body* may hold the end only; then from its first whole line on."""
    text = body.decode(errors="replace")
    if not text.startswith("{"):
        _, newline, rest = text.partition("\\n")
        text = f'{{"{field}": "{rest}' if newline else f'{{"{field}": ""}}'
    try:
        return str(json.loads(text)[field])
    except (ValueError, KeyError):
        return text  # not what Ray documents; better than nothing for whoever reads it
