"""Predictors on the local disk."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from perdure.cache import KEPT_SECONDS, fetched
from perdure.messages.common import ArtifactRef


class Store:
    """Objects by digest."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []

    def put(self, body: bytes) -> ArtifactRef:
        sha256 = hashlib.sha256(body).hexdigest()
        self.bodies[sha256] = body
        return ArtifactRef(uri=f"s3://b/{sha256}", sha256=sha256, size=len(body))

    def download(self, ref: ArtifactRef, path: Path) -> None:
        self.asked.append(ref.sha256)
        path.write_bytes(self.bodies[ref.sha256])


def age(path: Path) -> None:
    long_ago = time.time() - KEPT_SECONDS - 60
    os.utime(path, (long_ago, long_ago))


def test_each_is_fetched_once_and_again_where_its_bytes_changed(tmp_path: Path) -> None:
    store = Store()
    one = store.put(b"one")
    assert [fetched(tmp_path, one, store.download).read_bytes() for _ in range(2)] == [b"one"] * 2
    assert store.asked == [one.sha256]
    fetched(tmp_path, one, store.download).write_bytes(b"on")
    assert fetched(tmp_path, one, store.download).read_bytes() == b"one"
    assert store.asked == [one.sha256] * 2


def test_what_nobody_asked_for_in_a_month_is_deleted(tmp_path: Path) -> None:
    store = Store()
    refs = [store.put(name) for name in (b"old", b"asked", b"used", b"young")]
    old, asked, used, young = (fetched(tmp_path, ref, store.download) for ref in refs)
    cut_off = old.with_name(".part")
    cut_off.touch()
    for path in (old, asked, used, cut_off):
        age(path)
    fetched(tmp_path, refs[1], store.download)
    assert old.exists()  # nothing came
    new = fetched(tmp_path, store.put(b"new"), store.download, [refs[2].sha256])
    assert sorted(path for path in new.parent.iterdir()) == sorted([asked, used, young, new])


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store()
    with pytest.raises(KeyError):
        fetched(tmp_path, ArtifactRef(uri="s3://b/k", sha256="0" * 64, size=1), store.download)
    assert [*(tmp_path / "cache" / "predictors").iterdir()] == []
