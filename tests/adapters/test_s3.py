"""The object store against the real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.errors import AccessDenied, Conflict, CorruptArtifact, NotFound, ObjectsUnavailable, PerdureError
from perdure.local import ports
from perdure.messages.common import ArtifactRef
from tests.servers import Stack


@pytest.fixture(scope="module")
def objects(stack: Stack) -> ObjectStore:
    return ObjectStore(stack.isolated().s3)


def test_an_artifact_is_named_by_its_bytes(objects: ObjectStore, tmp_path: Path) -> None:
    ref = objects.put("models", "a.txt", b"hello")
    (tmp_path / "a.txt").write_bytes(b"hello")
    assert objects.put("models", "a.txt", tmp_path / "a.txt") == ref
    assert (objects.get(ref), objects.exists(ref), ref.size) == (b"hello", True, 5)
    assert objects.download(ref, tmp_path / "b.txt").read_bytes() == b"hello"
    assert [*objects.list("models/")] == [(f"models/{ref.sha256}/a.txt", 5)]
    assert objects.get_json(objects.put("models", "a.json", b'{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize("key", ["data/part#1.csv", "data/what?.csv", "data/a b&c=%41.csv"])
def test_keys_are_no_urls(objects: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"this one")
    objects.upload(lambda _: "data/part", tmp_path / "file")
    (tmp_path / "file").write_bytes(b"the other")
    ref = objects.upload(lambda _: key, tmp_path / "file")
    assert objects.get(ref) == b"the other"
    assert objects.size(ref) == 9


def test_large_files_are_streamed_in_parts(objects: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (70 << 12))  # 70 MiB, above the threshold
    ref = objects.put("models", "large", path)
    assert objects.exists(ref)
    assert objects.download(ref, tmp_path / "back").read_bytes() == path.read_bytes()


def test_other_bytes_under_a_name_are_found_out_and_mended(objects: ObjectStore, tmp_path: Path) -> None:
    ref = objects.put("reports", "r", b"true")
    objects.write(f"reports/{ref.sha256}/r", b"fake")
    assert not objects.exists(ref)
    for read in (lambda: objects.get(ref), lambda: objects.download(ref, tmp_path / "r")):
        with pytest.raises(CorruptArtifact, match=ref.sha256):
            read()
    assert not [*tmp_path.iterdir()]
    objects.put("reports", "r", b"true")
    assert objects.get(ref) == b"true"


def test_what_is_not_there(objects: ObjectStore) -> None:
    ref = ArtifactRef(uri=objects.uri("models/0/none"), sha256="0" * 64)
    assert not objects.exists(ref)
    assert objects.size(ref) is None
    assert objects.read("none") is None
    objects.delete(["none"])
    with pytest.raises(NotFound):
        objects.get(ref)


def test_a_missing_bucket_is_no_missing_object(objects: ObjectStore) -> None:
    """Else a wrong bucket would read as a cache without hits."""
    ref = ArtifactRef(uri="s3://no-such-bucket/models/0/none", sha256="0" * 64)
    for look in (objects.exists, objects.size):
        with pytest.raises(NotFound, match="bucket 'no-such-bucket' does not exist") as refused:
            look(ref)
        assert refused.value.field == "s3.bucket"


def test_whether_all_of_many_are_there(objects: ObjectStore) -> None:
    files = S3JobFiles(objects)
    refs = [objects.put("datasets", "part", b"%d" % number) for number in range(40)]
    assert files.all_there(refs)
    assert files.all_there([])
    assert not files.all_there([*refs, replace(refs[0], size=5)]), "cut short"
    objects.delete([refs[7].uri.removeprefix(objects.uri(""))])
    assert not files.all_there(refs)


def test_conditional_writes(objects: ObjectStore) -> None:
    objects.write("state", b"1", if_none_match=True)
    with pytest.raises(Conflict):
        objects.write("state", b"2", if_none_match=True)
    body, etag = objects.read("state") or (b"", "")
    objects.write("state", b"2", if_match=etag)
    with pytest.raises(Conflict):
        objects.write("state", b"3", if_match=etag)
    with pytest.raises(Conflict):
        objects.write("never", b"3", if_match=etag)
    assert (body, (objects.read("state") or (b"",))[0]) == (b"1", b"2")


def test_of_sixteen_writers_one_wins(objects: ObjectStore) -> None:
    def race(key: str, etag: str | None) -> list[bytes]:
        start, won = threading.Barrier(16), []

        def write(number: int) -> None:
            body = f"{number} after {etag}".encode()  # an etag is a digest: equal bytes would let a second writer in
            start.wait()
            try:
                objects.write(key, body, if_match=etag, if_none_match=etag is None)
                won.append(body)
            except Conflict:
                pass

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, range(16)))
        return won

    for attempt in range(5):
        etag = None
        for _ in range(2):
            won = race(f"race-{attempt}", etag)
            body, etag = objects.read(f"race-{attempt}") or (b"", "")
            assert won == [body]


@pytest.mark.parametrize(
    ("change", "error", "field"),
    [
        ({"secret_key": "env:WRONG"}, AccessDenied, "s3.access_key"),
        ({"bucket": "no-such-bucket"}, NotFound, "s3.bucket"),
        ({"endpoint": f"http://127.0.0.1:{ports.spare()}"}, ObjectsUnavailable, None),
    ],
)
def test_errors_name_the_cause_and_a_remedy(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], error: type[PerdureError], field: str | None
) -> None:
    monkeypatch.setenv("WRONG", "wrong")
    objects = ObjectStore(stack.settings.s3.model_copy(update=change), attempts=2)
    with pytest.raises(error) as raised:
        objects.read("anything")
    assert raised.value.field == field
    assert raised.value.remedy


def test_storage_options_reach_the_same_bucket(objects: ObjectStore) -> None:
    polars = pytest.importorskip("polars")
    polars.DataFrame({"a": [1, 2]}).write_parquet(objects.uri("frames/a.parquet"), storage_options=objects.storage_options())
    read = polars.read_parquet(objects.uri("frames/a.parquet"), storage_options=objects.storage_options())
    assert read["a"].to_list() == [1, 2]
