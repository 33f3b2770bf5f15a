"""The client against answers as Label Studio gives them: tokens, refusals, exports that break off."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from perdure.config import LabelStudioSettings
from perdure.errors import AccessDenied, InvalidInput, LabelStudioUnavailable, NotFound
from perdure.labeling.labelstudio.ports import Untaken
from tests.labelstudio.conftest import Servers
from tests.labelstudio.fake import REFRESH, Fake, captured, token


def test_an_access_token_is_replaced_before_it_ends(servers: Servers, served: tuple[Fake, str], tmp_path: Path) -> None:
    (fake, address), now = served, [0.0]
    (tmp_path / "token").write_text(REFRESH)
    server = servers(LabelStudioSettings(url=address, token=f"file:{tmp_path / 'token'}"), lambda: now[0])
    for now[0] in (0.0, 100.0, 239.0):
        assert server.find_project("x") is None
    assert len(fake.access) == 1
    now[0] = 241.0  # it lasts for 300 s, and is not used in its last minute
    assert server.find_project("x") is None
    assert len(fake.access) == 2
    fake.access.clear()  # ended by somebody
    assert server.find_project("x") is None
    assert len(fake.access) == 1
    (tmp_path / "token").write_text(token("refresh", 0, 1))
    with pytest.raises(AccessDenied, match="Token is invalid"):
        servers(LabelStudioSettings(url=address, token=f"file:{tmp_path / 'token'}")).find_project("x")


def test_what_a_refusal_means(servers: Servers, served: tuple[Fake, str], connection: LabelStudioSettings, tmp_path: Path) -> None:
    fake, address = served
    server = servers(connection)
    with pytest.raises(NotFound, match="No Project matches"):
        server.project(77)
    with pytest.raises(InvalidInput, match="no more than 50 characters"):
        server.create_project("x" * 51, "", "<View/>", "", 1)
    fake.closed_to_private = True
    project = server.create_project("xxx", "d", "<View/>", "", 1)
    with pytest.raises(AccessDenied, match="reserved network address") as refused:
        server.register(project, "h", str(connection.secret))
    assert "SSRF_PROTECTION_ENABLED=false" in str(refused.value.remedy)
    assert "http://gateway:8400/v1/hooks/h" in str(refused.value)
    fake.down = True
    with pytest.raises(LabelStudioUnavailable, match="does not answer"):
        server.project(project)
    for wrong, field in (
        (LabelStudioSettings(), "labelstudio.url"),
        (LabelStudioSettings(url=address), "labelstudio.token"),
        (LabelStudioSettings(url="nowhere", token=connection.token), "labelstudio.url"),
    ):
        with pytest.raises(InvalidInput) as said:
            servers(wrong).project(project)
        assert said.value.field == field
    (tmp_path / "token").write_text("password")
    with pytest.raises(InvalidInput, match="no token"):
        servers(connection).project(project)


def test_a_hook_is_registered_once_and_kept_right(
    servers: Servers, served: tuple[Fake, str], connection: LabelStudioSettings, tmp_path: Path
) -> None:
    fake, server = served[0], servers(connection)
    project = server.create_project("xxx", "d", "<View/>", "", 1)
    for _ in range(2):
        server.register(project, "h", str(connection.secret))
    [hook] = fake.hooks.values()
    assert (hook["url"], hook["headers"]) == ("http://gateway:8400/v1/hooks/h", {"Authorization": "Bearer s3cret"})
    assert sorted(hook["actions"]) == ["ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "ANNOTATION_CREATED", "ANNOTATION_UPDATED"]
    assert sum(asked.startswith(("POST /api/webhooks", "PATCH")) for asked in fake.asked) == 1
    (tmp_path / "secret").write_text("another")
    hook["is_active"] = False  # as a later version does to hooks that fail
    server.register(project, "h", str(connection.secret))
    [hook] = fake.hooks.values()
    assert (hook["headers"], hook["is_active"], len(hook["actions"])) == ({"Authorization": "Bearer another"}, True, 4)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_an_export_is_read_object_by_object(servers: Servers, connection: LabelStudioSettings, size: int) -> None:
    """The captured export, in pieces of any size; one that breaks off is not taken for a whole one."""
    exported = captured("api_export_JSON")
    text = json.dumps(exported, indent=1).encode()

    def reading(body: bytes) -> list[object]:
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=pieces))
        with servers(connection, transport=transport).export(1) as tasks:
            return list(tasks)

    assert reading(text) == exported
    assert reading(b" [ ]\n") == []
    for broken in (text[:-2], text[:5_000], b"", b"<html>", b'{"detail": "no"}'):
        with pytest.raises(LabelStudioUnavailable, match="broke off"):
            reading(broken)


def test_only_what_is_said_about_tasks_is_about_tasks(servers: Servers, connection: LabelStudioSettings) -> None:
    """Whoever imports leaves out tasks that are refused: not all of them, because a proxy asks for a password."""
    said = [
        (httpx.Response(400, json={"validation_errors": {"non_field_errors": ["Error at item 0"]}}), Untaken, "Error at item 0"),
        (httpx.Response(413, text="large"), Untaken, "Request Entity Too Large"),
        (httpx.Response(200, html="<h1>Log in</h1>"), InvalidInput, "answers with a page"),
        (httpx.Response(403, json={"detail": "no"}), AccessDenied, "no"),
        (httpx.Response(502), LabelStudioUnavailable, "502"),
        (httpx.Response(302, headers={"location": "/login"}), LabelStudioUnavailable, "302"),
        (httpx.Response(201, json={"task_count": 1}), LabelStudioUnavailable, "which tasks"),
    ]
    for answer, error, why in said:
        transport = httpx.MockTransport(lambda request, answer=answer: answer)
        with pytest.raises(error, match=why):
            servers(connection, transport=transport).import_tasks(1, [{}])


def test_a_page_is_no_answer(servers: Servers, connection: LabelStudioSettings) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, html="<h1>Label Studio</h1>"))
    with pytest.raises(InvalidInput, match="answers with a page"):
        servers(connection, transport=transport).project(1)


def test_an_address_is_shown_without_a_password(servers: Servers, served: tuple[Fake, str], connection: LabelStudioSettings) -> None:
    """It stands in rows and in messages."""
    fake, address = served
    server = servers(connection.model_copy(update={"url": address.replace("//", "//ann:p@ss@") + "/"}))
    assert server.address == address
    assert server.find_project("x") is None
    fake.down = True
    with pytest.raises(LabelStudioUnavailable) as refused:
        server.find_project("x")
    assert "p@ss" not in str(refused.value)
