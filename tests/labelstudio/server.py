"""A real Label Studio, from the environment that `make test-labelstudio` has made, with a data folder that goes with the test's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from perdure.config import find_home
from perdure.local import ports
from tests.labelstudio.fake import LEGACY

PROGRAM = find_home() / "label-studio" / "bin" / "label-studio"  # of the developer: read before the tests' own folder is set
STARTING = 240.0  # seconds; a minute on a machine with nothing else to do
_QUIET = {
    "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    "SSRF_PROTECTION_ENABLED": "false",
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


class Server:
    """Its API, as somebody who labels uses it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._http = httpx.Client(base_url=address, headers={"Authorization": f"Token {LEGACY}"}, timeout=60, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = self._http.request(method, path, **more)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def tasks(self, project: int) -> dict[str, Any]:
        """Tasks by their keys; whoever asks finds each key once."""
        found = self.call("GET", f"/api/projects/{project}/export", params={"exportType": "JSON", "download_all_tasks": "true"})
        keys = [task["meta"]["task_key"] for task in found]
        assert len(set(keys)) == len(keys), f"tasks are there twice: {keys}"
        return dict(zip(keys, found, strict=True))

    def annotate(self, task: Any, value: Any, kind: str = "choices", **more: Any) -> int:
        held = {"choices": [value]} if kind == "choices" else {kind: value}
        result = [{"id": "r", "from_name": "label", "to_name": "shown", "type": kind, "value": held}]
        return int(self.call("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": result, "lead_time": 1.5, **more})["id"])

    def somebody_else(self) -> httpx.Client:
        """A second person, who has been invited."""
        name, link = f"{uuid4().hex[:8]}@example.com", self.call("GET", "/api/invite")["invite_url"]
        browser = httpx.Client(base_url=self.address, timeout=60, trust_env=False, follow_redirects=True)
        form = re.findall(r'name="csrfmiddlewaretoken" value="(.+?)"', browser.get(link).text)
        said = {"csrfmiddlewaretoken": form[0], "email": name, "password": "a-password-of-tests"}
        browser.post(link, data=said, headers={"Referer": self.address}).raise_for_status()
        return browser

    def delete(self, annotation: int) -> None:
        self.call("DELETE", f"/api/annotations/{annotation}/")


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server for the time of the block."""
    port = ports.spare()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
    command = [str(PROGRAM), "start", "--no-browser", "--port", str(port), "--internal-host", "127.0.0.1"]
    command += ["--username", "admin@example.com", "--password", "a-password-of-tests", "--user-token", LEGACY]
    with (folder / "label-studio.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**environment, **_QUIET, "LABEL_STUDIO_BASE_DATA_DIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}")
    try:
        _wait(process, server, folder)
        yield server
    finally:
        server.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], server: Server, folder: Path) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "label-studio.log").read_text()[-3_000:]
        try:
            server.call("GET", "/api/projects/", timeout=10)
        except (httpx.TransportError, AssertionError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError("Label Studio does not start: " + (folder / "label-studio.log").read_text()[-3_000:])
