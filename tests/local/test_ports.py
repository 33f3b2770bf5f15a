from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from perdure.local import ports
from perdure.local.files import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_ports_are_kept(home: Home) -> None:
    first = ports.pick(home)
    assert set(first) == set(ports.NAMES)
    assert len(set(first.values())) == len(first)
    assert ports.pick(home) == first
    assert json.loads(home.ports.read_text()) == first


def test_port_taken_by_another_program_is_replaced_alone(home: Home) -> None:
    first = ports.pick(home)
    with socket.create_server(("127.0.0.1", first["s3"])):
        second = ports.pick(home)
    assert {name for name in first if first[name] != second[name]} == {"s3"}


def test_two_folders_share_no_port_once_one_of_them_runs(tmp_path: Path) -> None:
    home, other = Home(tmp_path / "one"), Home(tmp_path / "two")
    home.path.mkdir()
    other.path.mkdir()
    mine = ports.pick(home)
    servers = [socket.create_server(("127.0.0.1", port)) for port in mine.values()]
    try:
        assert not set(ports.pick(other).values()) & set(mine.values())
    finally:
        for server in servers:
            server.close()
