"""A Label Studio that answers as the real one did: captured answers with other values. A test sets its clock and its failures."""

from __future__ import annotations

import base64
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.gateway.world import payload

PAYLOADS = Path(__file__).parent / "payloads"
LEGACY = "0123456789abcdef" * 2 + "01234567"
Json = dict[str, Any]


def captured(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def token(kind: str, iat: float, lasts: float) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"token_type": kind, "iat": iat, "exp": iat + lasts}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.signature"


REFRESH = token("refresh", 1_795_386_874, 1e9)


class Refused(Exception):
    def __init__(self, code: int, detail: Any) -> None:
        self.code, self.detail = code, detail


class Fake:
    """Its state, and what people do there."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 12, tzinfo=UTC)
        self.projects: dict[int, Json] = {}
        self.tasks: dict[int, Json] = {}
        self.hooks: dict[int, Json] = {}
        self.asked: list[str] = []  # method and path of every request
        self.down = False
        self.answers = threading.Event()  # cleared: it takes requests, and says nothing until this is set
        self.answers.set()
        self.kept_waiting = 0  # requests
        self.closed_to_private = False  # SSRF_PROTECTION_ENABLED
        self.cuts_exports = False
        self.deaf_after: str | None = None  # a path whose request is carried out, and not answered
        self.access: set[str] = set()
        self.lasts = 300.0
        self._next = 0
        self._lock = threading.Lock()

    def tick(self, **by: float) -> None:
        self.now += timedelta(**by)

    def task(self, key: str) -> Json:
        return next(task for task in self.tasks.values() if (task["meta"] or {}).get("task_key") == key)

    def annotate(self, key: str, value: Any, user: int = 1, **more: Any) -> Json:
        """Somebody answers; the message that the web hook would carry."""
        self.tick(milliseconds=7)
        task, made = self.task(key), copy.deepcopy(captured("api_tasks_updated_since")["tasks"][1]["annotations"][0])
        kind = "choices" if isinstance(value, str) else "number"
        result = [{**made["result"][0], "type": kind, "value": {kind: [value] if kind == "choices" else value}}]
        times = {"created_at": _stamp(self.now), "updated_at": _stamp(self.now + timedelta(microseconds=27))}
        made |= {"id": self._id(), "completed_by": user, "result": result, "task": task["id"], "project": task["project"], **times, **more}
        task["annotations"].append(made)
        self._touch(task)
        return self._message("ANNOTATION_CREATED", made, task)

    def change(self, annotation: int, value: str) -> Json:
        self.tick(seconds=2)
        task, made = self._annotation(annotation)
        made["result"][0]["value"], made["updated_at"] = {"choices": [value]}, _stamp(self.now)
        self._touch(task)
        return self._message("ANNOTATION_UPDATED", made, task)

    def delete(self, annotation: int) -> Json:
        task, made = self._annotation(annotation)
        task["annotations"].remove(made)
        self._touch(task)
        return {**payload("ANNOTATIONS_DELETED"), "annotations": [{"id": annotation}]}

    def _message(self, action: str, annotation: Json, task: Json) -> Json:
        body = payload(action)
        told = {name: value for name, value in task.items() if name in body["task"]}
        return {**body, "annotation": {**body["annotation"], **annotation}, "task": {**body["task"], **told}}

    def _annotation(self, id: int) -> tuple[Json, Json]:
        return next((task, made) for task in self.tasks.values() for made in task["annotations"] if made["id"] == id)

    def _touch(self, task: Json) -> None:
        self.tick(milliseconds=3)
        task["updated_at"] = _stamp(self.now)

    def _id(self) -> int:
        self._next += 1
        return self._next

    # --- the API -------------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: Any) -> tuple[int, Any]:
        with self._lock:
            self.asked.append(f"{method} {path}")
            if path == "/api/token/refresh":
                return self._refresh(body)
            shown = headers.get("Authorization", "")
            if shown != f"Token {LEGACY}" and shown.removeprefix("Bearer ") not in self.access:
                raise Refused(401, "Authentication credentials were not provided.")
            for pattern, work in self._routes().items():
                if match := re.fullmatch(pattern, f"{method} {path}"):
                    return work(*map(int, match.groups()), query=query, body=body)
            raise Refused(404, "Not found.")

    def _routes(self) -> dict[str, Any]:
        return {
            r"GET /api/projects/": self._list_projects,
            r"POST /api/projects/": self._create_project,
            r"GET /api/projects/(\d+)/": lambda id, **_: (200, self._project(id)),
            r"POST /api/projects/(\d+)/import": self._import,
            r"GET /api/projects/(\d+)/export": self._export,
            r"GET /api/tasks": self._changed,
            r"PATCH /api/tasks/(\d+)/": self._set,
            r"GET /api/webhooks/": lambda query, **_: (200, [h for h in self.hooks.values() if h["project"] == int(query["project"])]),
            r"POST /api/webhooks/": self._hook,
            r"PATCH /api/webhooks/(\d+)/": lambda id, body, **_: self._hook(body=body, query={}, id=id),
        }

    def _set(self, id: int, body: Json, **_: Any) -> tuple[int, Any]:
        if id not in self.tasks:
            raise Refused(404, "No Task matches the given query.")
        self.tasks[id] |= body
        return 200, self.tasks[id]

    def _refresh(self, body: Json) -> tuple[int, Any]:
        if body != {"refresh": REFRESH}:
            raise Refused(401, "Token is invalid")
        access = token("access", self.now.timestamp() + len(self.access), self.lasts)
        self.access.add(access)
        return 200, {"access": access}

    def _project(self, id: int) -> Json:
        if id not in self.projects:
            raise Refused(404, "No Project matches the given query.")
        return self.projects[id]

    def _list_projects(self, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        found = [{name: each[name] for name in query["include"].split(",")} for each in reversed(self.projects.values())]
        return 200, {"count": len(found), "next": None, "previous": None, "results": found}

    def _create_project(self, body: Json, **_: Any) -> tuple[int, Any]:
        if not 3 <= len(body["title"]) <= 50:
            raise Refused(400, {"title": ["Ensure this field has no more than 50 characters."]})
        labels = re.findall(r'<Choice value="(.*?)"/>', body["label_config"])
        control = {"type": "Choices" if labels else "Number", "to_name": ["shown"], "labels": labels}
        id = self._id()
        self.projects[id] = {**captured("api_project_create_response"), **body, "id": id, "parsed_label_config": {"label": control}}
        return 201, self.projects[id]

    def _import(self, id: int, body: list[Json], **_: Any) -> tuple[int, Any]:
        project = self._project(id)
        needed = re.findall(r'value="\$(\w+)"', project["label_config"])
        for number, line in enumerate(body):
            if missing := [name for name in needed if name not in line["data"]]:
                raise Refused(400, {"non_field_errors": [f'Error at item {number}: "{missing[0]}" key is expected in task data']})
            if line["data"].get("text") == "poison":
                raise Refused(400, {"non_field_errors": [f"Error at item {number}: too bad"]})
        template, ids = captured("api_tasks_updated_since")["tasks"][0], []
        for line in body:
            task = {
                **copy.deepcopy(template),
                "id": self._id(),
                "annotations": [],
                "project": id,
                "overlap": project["maximum_annotations"],
            }
            task |= {"data": line["data"], "meta": line.get("meta"), "predictions": line.get("predictions", [])}
            self.tasks[task["id"]] = task
            self._touch(task)
            ids.append(task["id"])
        return 201, {**captured("api_import_response"), "task_count": len(ids), "task_ids": ids}

    def _export(self, id: int, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        self._project(id)
        template, whole = captured("api_export_JSON")[0], query.get("download_all_tasks") == "true"
        kept = ("id", "annotations", "data", "meta", "updated_at")
        found = [task for task in self.tasks.values() if task["project"] == id and (whole or task["annotations"])]
        return 200, [{**template, **{name: task[name] for name in kept}} for task in found]

    def _changed(self, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        asked = json.loads(query["query"])
        found = [task for task in self.tasks.values() if task["project"] == int(query["project"])]
        for item in asked.get("filters", {}).get("items", ()):
            assert (item["filter"], item["operator"], item["type"]) == ("filter:tasks:updated_at", "greater_or_equal", "Datetime")
            found = [task for task in found if task["updated_at"] >= item["value"]]
        [order] = asked["ordering"]
        found.sort(key=lambda task: task[order.rpartition(":")[2]], reverse=order.startswith("-"))
        page, size = int(query["page"]), int(query["page_size"])
        if page > 1 and (page - 1) * size >= len(found):
            raise Refused(404, "Invalid page.")
        wanted = query["include"].split(",")

        def chosen(whole: Json) -> Json:  # of what lies in it the same names
            return {name: [chosen(x) for x in whole[name]] if name == "annotations" else whole[name] for name in wanted if name in whole}

        return 200, {
            **captured("api_tasks_updated_since"),
            "total": len(found),
            "tasks": [chosen(task) for task in found[(page - 1) * size : page * size]],
        }

    def _hook(self, body: Json, id: int | None = None, **_: Any) -> tuple[int, Any]:
        if self.closed_to_private:
            raise Refused(403, "URL resolves to a reserved network address (block: 127.0.0.0/8)")
        id = id or self._id()
        emptied = {"actions": [], "headers": {}}  # what a change does not name
        self.hooks[id] = {**captured("api_webhook_create_response"), **emptied, **body, "id": id}
        return 201, self.hooks[id]


@contextmanager
def serving() -> Iterator[tuple[Fake, str]]:
    """The fake and its address."""
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not fake.answers.is_set():
                fake.kept_waiting += 1
                fake.answers.wait()
                fake.kept_waiting -= 1
            if fake.down:
                self.close_connection = True
                return
            try:
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                status, said = fake.answer(self.command, parts.path, query, self.headers, json.loads(raw) if raw else None)
            except Refused as err:
                field = "detail" if isinstance(err.detail, str) else "validation_errors"
                status, said = err.code, {"status_code": err.code, "version": "1.23.2", field: err.detail}
            if fake.deaf_after and parts.path.endswith(fake.deaf_after):
                fake.deaf_after, self.close_connection = None, True
                return
            body = json.dumps(said).encode()
            self.send_response_only(status)
            self.send_header("Date", format_datetime(fake.now, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fake.cuts_exports and parts.path.endswith("/export"):
                body, self.close_connection = body[:-1], True
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake, f"http://127.0.0.1:{server.server_port}"
    finally:
        fake.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
