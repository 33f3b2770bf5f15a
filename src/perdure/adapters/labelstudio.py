"""Port `LabelStudio` on its HTTP API, version 1.23.

A legacy token is sent as it is. A personal access token is only good for fetching access tokens that last for five minutes: one is fetched
before the last one ends.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from perdure.config import GatewaySettings, LabelStudioSettings, resolve_secret
from perdure.errors import AccessDenied, InvalidInput, LabelStudioUnavailable, NotFound, bounded
from perdure.labeling.labelstudio.messages import ACTIONS, KEPT
from perdure.labeling.labelstudio.ports import Changed, Project
from perdure.messages.common import Json

TIMEOUT = httpx.Timeout(20.0, connect=5.0)
LONG = httpx.Timeout(300.0, connect=5.0)  # an import, or the first byte of an export: it works as long as it has tasks
EARLY = 60.0  # seconds before its end at which an access token is replaced
_LISTED = 500  # tasks a page
_INCLUDED = ",".join(("meta", "annotations", *KEPT))  # of tasks and, with the same names, of their annotations
_LEGACY = re.compile(r"[0-9a-f]{40}")
_HIDDEN = "make gateway.url an address that it may reach, or set SSRF_PROTECTION_ENABLED=false where Label Studio runs"


class LabelStudioServer:
    """One server. Thread-safe. *clock* tells seconds."""

    def __init__(
        self, settings: LabelStudioSettings, gateway: GatewaySettings, clock: Callable[[], float] = time.monotonic, **transport: Any
    ) -> None:
        self.address, self.secret = (settings.url or "").rstrip("/"), settings.secret
        self._token, self._clock = settings.token, clock
        self._hooks = (gateway.url or f"http://{gateway.host}:{gateway.port}").rstrip("/") + "/v1/hooks/"
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False, **transport)
        self._lock = threading.Lock()
        self._access: tuple[str, float] | None = None  # an access token, and when it is to be replaced

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    # --- projects ------------------------------------------------------------------------------------------------------

    def project(self, id: int) -> Project:
        """Raises NotFound."""
        found = self._json("GET", f"/api/projects/{id}/")
        return Project(id=id, description=str(found.get("description") or ""), controls=found.get("parsed_label_config") or {})

    def find_project(self, description: str) -> int | None:
        """The oldest project with this description."""
        page, ids = 1, list[int]()
        while True:
            found = self._json("GET", "/api/projects/", params={"page": page, "page_size": 100, "include": "id,description"})
            ids += [each["id"] for each in found["results"] if each.get("description") == description]
            if not found.get("next"):
                return min(ids, default=None)
            page += 1

    def create_project(self, title: str, description: str, config: str, instructions: str, overlap: int) -> int:
        """A new project; its id."""
        made = {
            "title": title,
            "description": description,
            "label_config": config,
            "expert_instruction": instructions,
            "show_instruction": bool(instructions),
            "maximum_annotations": overlap,
        }
        return int(self._json("POST", "/api/projects/", json=made)["id"])

    def register(self, project: int, hook: str, secret: str) -> None:
        """Have the gateway's *hook* told of annotations, with the secret to which *secret* refers; no-op where that is so."""
        wanted = {
            "project": project,
            "url": self._hooks + hook,
            "headers": {"Authorization": f"Bearer {resolve_secret(secret)}"},
            "send_payload": True,
            "send_for_all_actions": False,
            "actions": sorted(ACTIONS),
            "is_active": True,
        }
        found = [each for each in self._json("GET", "/api/webhooks/", params={"project": project}) if each.get("url") == wanted["url"]]
        try:
            if not found:
                self._json("POST", "/api/webhooks/", json=wanted)
            elif any({**found[0], "actions": sorted(found[0].get("actions") or ())}.get(name) != value for name, value in wanted.items()):
                self._json("PATCH", f"/api/webhooks/{found[0]['id']}/", json=wanted)  # what is left out would be emptied
        except AccessDenied as err:
            raise AccessDenied(f"{err.problem} (the web hook is {wanted['url']})", field="gateway.url", remedy=_HIDDEN) from None

    # --- tasks ---------------------------------------------------------------------------------------------------------

    def import_tasks(self, project: int, lines: Sequence[Json]) -> list[int]:
        """Add tasks; their ids, in order."""
        made = self._json("POST", f"/api/projects/{project}/import", params={"return_task_ids": "true"}, json=list(lines), timeout=LONG)
        ids = made.get("task_ids")
        if not isinstance(ids, list) or len(ids) != len(lines):
            raise LabelStudioUnavailable(f"Label Studio at {self.address} did not say which tasks it has made")
        return [int(id) for id in ids]

    def tasks(self, project: int) -> Iterator[tuple[int, Json]]:
        """The id of every task, and the task without its data, the newest first."""
        page = 1
        while True:
            query = {"ordering": ["-tasks:id"]}
            found = self._listed(project, query, page, _LISTED, include="id,meta")["tasks"]
            for task in found:
                yield int(task["id"]), task
            if len(found) < _LISTED:
                return
            page += 1

    def ask_more(self, task: int, overlap: int) -> None:
        """Have so many people asked about a task, which may have counted as labeled."""
        self._json("PATCH", f"/api/tasks/{task}/", json={"overlap": overlap, "is_labeled": False})

    def changed(self, project: int, since: datetime | None, page: int, size: int) -> Changed:
        """Tasks with their annotations that changed at *since* or later."""
        query: Json = {"ordering": ["tasks:updated_at"]}
        if since is not None:
            at = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            wanted = {"filter": "filter:tasks:updated_at", "operator": "greater_or_equal", "type": "Datetime", "value": at}
            query["filters"] = {"conjunction": "and", "items": [wanted]}
        found = self._listed(project, query, page, size, include=_INCLUDED)
        return Changed(tasks=found["tasks"], at=found["at"])

    def _listed(self, project: int, query: Json, page: int, size: int, include: str) -> Json:
        where = {"project": project, "fields": "all", "include": include, "page": page, "page_size": size, "query": json.dumps(query)}
        try:
            answer = self._request("GET", "/api/tasks", params=where, timeout=LONG)
        except NotFound:
            if page == 1:
                raise
            return {"tasks": [], "at": datetime.now(UTC)}  # past the last page there is nothing
        return {"tasks": self._read(answer)["tasks"], "at": _date(answer)}

    @contextlib.contextmanager
    def export(self, project: int) -> Iterator[Iterator[Json]]:
        """Every task with its annotations, one in memory at a time."""
        url, params = f"/api/projects/{project}/export", {"exportType": "JSON", "download_all_tasks": "true"}
        with (
            self._translated(),
            self._http.stream(
                "GET", self.address + url, params=params, headers=self._proof(), timeout=LONG, follow_redirects=False
            ) as answer,
        ):
            if not answer.is_success:
                answer.read()
                self._refuse(answer)
            yield self._items(answer)

    def _items(self, answer: httpx.Response) -> Iterator[Json]:
        """The objects of the one array that the body is. Raises LabelStudioUnavailable where it breaks off."""
        decoder, text, begun = json.JSONDecoder(), "", False
        with self._translated():
            for piece in answer.iter_text(1 << 16):
                text = (text + piece).lstrip()
                if not begun and text:
                    if text[0] != "[":
                        break
                    text, begun = text[1:], True
                while text := text.lstrip(", \r\n\t"):
                    try:
                        item, end = decoder.raw_decode(text)
                    except ValueError:  # not whole yet
                        break
                    text = text[end:]
                    yield item
                    if text.lstrip()[:1] == "]":
                        return
                if text[:1] == "]":
                    return
        raise LabelStudioUnavailable(f"the export of Label Studio at {self.address} broke off, or is none")

    # --- requests ------------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **more: Any) -> Any:
        return self._read(self._request(method, path, **more))

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise InvalidInput(
                f"{self.address} answers with a page, not as Label Studio's API does",
                field="labelstudio.url",
                remedy="name the address under which Label Studio's own pages begin",
            ) from None

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        if not self.address:
            raise InvalidInput(
                "no Label Studio is set, and the campaign wants one", field="labelstudio.url", remedy="set PERDURE_LABELSTUDIO__URL"
            )
        for last in (False, True):
            with self._translated():
                answer = self._http.request(method, self.address + path, headers=self._proof(), **more)
            if answer.status_code == httpx.codes.UNAUTHORIZED and not last and self._forget():
                continue  # an access token that ended early
            if not answer.is_success:
                self._refuse(answer)
            return answer
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise InvalidInput(f"{self.address!r} is no address", field="labelstudio.url", remedy="write http://host:port") from None
        except (httpx.HTTPError, httpx.StreamError) as err:
            raise LabelStudioUnavailable(f"Label Studio at {self.address} does not answer: {type(err).__name__}") from err

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        """Raise what the answer means."""
        code, said = answer.status_code, _said(answer)
        told = f"Label Studio at {self.address} answered {code}: {said}"
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise AccessDenied(told, field="labelstudio.token", remedy="make a token of somebody who may change the project")
        if code == httpx.codes.NOT_FOUND:
            raise NotFound(told, field="labelstudio.project", remedy="restore the project in Label Studio, or close the campaign")
        if code in (408, 429) or code >= 500 or answer.is_redirect:
            raise LabelStudioUnavailable(told)
        raise InvalidInput(told, field="labelstudio", remedy="see what Label Studio says")

    # --- who asks ------------------------------------------------------------------------------------------------------

    def _proof(self) -> dict[str, str]:
        if not self._token:
            raise InvalidInput("a token of Label Studio is needed", field="labelstudio.token", remedy="set PERDURE_LABELSTUDIO__TOKEN")
        token = resolve_secret(self._token)
        if _LEGACY.fullmatch(token):
            return {"Authorization": f"Token {token}"}
        if token.count(".") != 2:
            raise InvalidInput(
                "this is no token of Label Studio", field="labelstudio.token", remedy="copy it whole from your account there"
            )
        with self._lock:
            if self._access is None or self._clock() >= self._access[1]:
                self._access = self._fetch(token)
            return {"Authorization": f"Bearer {self._access[0]}"}

    def _fetch(self, token: str) -> tuple[str, float]:
        with self._translated():
            answer = self._http.post(f"{self.address}/api/token/refresh", json={"refresh": token})
        if not answer.is_success:
            self._refuse(answer)
        access = str(self._read(answer).get("access"))
        return access, self._clock() + max(_lasts(access) - EARLY, 0.0)

    def _forget(self) -> bool:
        """Whether there was an access token that may have ended."""
        with self._lock:
            known, self._access = self._access, None
        return known is not None


def _lasts(access: str) -> float:
    """Seconds from now until an access token ends, by its own two times: clocks here and there may differ."""
    try:
        body = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return float(claims["exp"] - claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0  # one for each request


def _date(answer: httpx.Response) -> datetime:
    """What time it is there; where it does not say, here."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)


def _said(answer: httpx.Response) -> str:
    """Why a request was refused, in Label Studio's words."""
    try:
        body = answer.json()
        wrong = body.get("validation_errors") or body.get("detail")
    except (ValueError, AttributeError):
        return answer.reason_phrase
    return bounded(wrong if isinstance(wrong, str) else json.dumps(wrong, ensure_ascii=False), 500)
