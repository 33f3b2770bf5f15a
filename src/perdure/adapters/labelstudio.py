"""Port `LabelStudio` on its HTTP API, version 1.23."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from perdure.adapters.labelstudio_connection import Connection, said
from perdure.config import GatewaySettings, LabelStudioSettings, resolve_secret
from perdure.errors import AccessDenied, LabelStudioUnavailable, NotFound
from perdure.labeling.labelstudio.messages import ACTIONS, KEPT
from perdure.labeling.labelstudio.ports import Changed, Project, Untaken
from perdure.messages.common import Json

EXPORT = httpx.Timeout(900.0, connect=5.0)  # it is written whole before its first byte comes
_UNTAKEN = (httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE, httpx.codes.UNPROCESSABLE_ENTITY)
_LISTED = 500  # tasks a page
_INCLUDED = ",".join(("meta", "annotations", *KEPT))  # of tasks and, with the same names, of their annotations
_HIDDEN = "make gateway.url an address that it may reach, or set SSRF_PROTECTION_ENABLED=false where Label Studio runs"


class LabelStudioServer:
    """One server. Thread-safe. *clock* tells seconds."""

    def __init__(
        self, settings: LabelStudioSettings, gateway: GatewaySettings, clock: Callable[[], float] = time.monotonic, **transport: Any
    ) -> None:
        self._http = Connection(settings, clock, **transport)
        self.address, self.secret = self._http.address, settings.secret
        self._hooks = (gateway.url or f"http://{gateway.host}:{gateway.port}").rstrip("/") + "/v1/hooks/"

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    # --- projects ------------------------------------------------------------------------------------------------------

    def project(self, id: int) -> Project:
        """Raises NotFound."""
        found = self._http.json("GET", f"/api/projects/{id}/")
        return Project(id=id, description=str(found.get("description") or ""), controls=found.get("parsed_label_config") or {})

    def find_project(self, description: str) -> int | None:
        """The oldest project with this description."""
        page, ids = 1, list[int]()
        while True:
            found = self._http.json("GET", "/api/projects/", params={"page": page, "page_size": 100, "include": "id,description"})
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
        return int(self._http.json("POST", "/api/projects/", json=made)["id"])

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
        found = [each for each in self._http.json("GET", "/api/webhooks/", params={"project": project}) if each.get("url") == wanted["url"]]
        try:
            if not found:
                self._http.json("POST", "/api/webhooks/", json=wanted)
            elif any({**found[0], "actions": sorted(found[0].get("actions") or ())}.get(name) != value for name, value in wanted.items()):
                self._http.json("PATCH", f"/api/webhooks/{found[0]['id']}/", json=wanted)  # what is left out would be emptied
        except AccessDenied as err:
            raise AccessDenied(f"{err.problem} (the web hook is {wanted['url']})", field="gateway.url", remedy=_HIDDEN) from None

    # --- tasks ---------------------------------------------------------------------------------------------------------

    def import_tasks(self, project: int, lines: Sequence[Json]) -> list[int]:
        """Add tasks, all or none; their ids, in order. Raises Untaken."""
        path, asked = f"/api/projects/{project}/import", {"return_task_ids": "true"}
        answer = self._http.request("POST", path, params=asked, json=list(lines), judged=_UNTAKEN)
        if answer.status_code in _UNTAKEN:
            raise Untaken(said(answer))
        ids = self._http.read(answer).get("task_ids")
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
        self._http.json("PATCH", f"/api/tasks/{task}/", json={"overlap": overlap, "is_labeled": False})

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
            answer = self._http.request("GET", "/api/tasks", params=where)
        except NotFound:
            if page == 1:
                raise
            return {"tasks": [], "at": datetime.now(UTC)}  # past the last page there is nothing
        return {"tasks": self._http.read(answer)["tasks"], "at": _date(answer)}

    @contextlib.contextmanager
    def export(self, project: int) -> Iterator[Iterator[Json]]:
        """Every task with its annotations, one in memory at a time. Raises LabelStudioUnavailable where it breaks off."""
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        with self._http.stream(f"/api/projects/{project}/export", params=params, timeout=EXPORT) as pieces:
            yield self._items(pieces)

    def _items(self, pieces: Iterator[str]) -> Iterator[Json]:
        """The objects of the one array that the pieces are."""
        decoder, text, begun = json.JSONDecoder(), "", False
        for piece in pieces:
            text = (text + piece).lstrip()
            if not begun and text:
                if text[0] != "[":
                    break
                text, begun = text[1:], True
            while text := text.lstrip(", \r\n\t"):
                try:
                    item, end = decoder.raw_decode(text)
                except ValueError:  # not whole yet, or the end
                    break
                text = text[end:]
                yield item
            if text[:1] == "]":
                return
        raise LabelStudioUnavailable(f"the export of Label Studio at {self.address} broke off, or is none")


def _date(answer: httpx.Response) -> datetime:
    """What time it is there; where it does not say, here."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)
