"""Objects on S3: immutable ones under the sha256 of their bytes, and compare-and-swap on the few that change."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse
from uuid import uuid4

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from perdure.config import S3Settings, resolve_secret
from perdure.errors import AccessDenied, Conflict, CorruptArtifact, NotFound, ObjectsUnavailable, PerdureError, StorageFull
from perdure.messages.common import ArtifactRef

_CHUNK = 1 << 20
_FULL_HASH = 1 << 30  # bytes; above it `exists` compares sizes only, and readers verify while they stream
_DENIED = {"AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401", "403"}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"}
_T = TypeVar("_T")


class ObjectStore:
    """One bucket. Thread-safe; one per process, as its connections are pooled.

    *attempts* is how often a request is tried (with backoff) before ObjectsUnavailable is raised: few where somebody watches and will look
    again, many inside a job. Every method may also raise AccessDenied, StorageFull, and NotFound for a missing bucket.
    """

    def __init__(self, settings: S3Settings, *, attempts: int = 8) -> None:
        self.bucket = settings.bucket
        self._attempts = attempts
        self._region = settings.region
        self._session = boto3.Session(
            aws_access_key_id=resolve_secret(settings.access_key) if settings.access_key else None,
            aws_secret_access_key=resolve_secret(settings.secret_key) if settings.secret_key else None,
            region_name=settings.region,
        )
        endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._endpoint = endpoint
        self._s3 = self._session.client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint else "auto"},
                retries={"mode": "standard", "total_max_attempts": attempts},
                connect_timeout=3,
                read_timeout=30,
                max_pool_connections=32,
                # Not every server knows the newer checksum trailers; the signature covers the body, and artifacts their sha256.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._transfer = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=32 << 20, max_concurrency=4)

    # --- immutable objects -------------------------------------------------------------------------------------------

    def put(self, kind: str, name: str, body: bytes | Path) -> ArtifactRef:
        """Store *body* as ``{kind}/{sha256}/{name}``; the same bytes again change nothing. Files are streamed.

        They are sent even where the object is there: that mends a corrupt one, and makes an unreferenced one young for the sweeper.
        """
        if isinstance(body, Path):
            return self.upload(lambda sha256: f"{kind}/{sha256}/{name}", body)
        sha256 = hashlib.sha256(body).hexdigest()
        key = f"{kind}/{sha256}/{name}"
        self.write(key, body)
        return ArtifactRef(uri=self.uri(key), sha256=sha256, size=len(body))

    def upload(self, key: Callable[[str], str], path: Path) -> ArtifactRef:
        """Stream a file to the key that *key* makes of its sha256."""
        with self._translated(str(path)), path.open("rb") as file:
            sha256, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
            file.seek(0)
            self._s3.upload_fileobj(file, self.bucket, key(sha256), Config=self._transfer)
        return ArtifactRef(uri=self.uri(key(sha256)), sha256=sha256, size=size)

    def get(self, ref: ArtifactRef) -> bytes:
        """The artifact's bytes, verified. Raises NotFound, CorruptArtifact."""
        parts: list[bytes] = []
        self._stream(ref, parts.clear, parts.append)
        return b"".join(parts)

    def download(self, ref: ArtifactRef, path: Path) -> Path:
        """Stream the artifact into *path*, verified; it appears whole or not at all. Raises NotFound, CorruptArtifact, StorageFull."""
        part = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with self._translated(ref.uri), part.open("wb") as file:

                def restart() -> None:
                    file.seek(0)
                    file.truncate()

                self._stream(ref, restart, file.write)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def get_json(self, ref: ArtifactRef) -> Any:
        """The artifact's JSON, verified."""
        return json.loads(self.get(ref))

    def exists(self, ref: ArtifactRef) -> bool:
        """Whether the object is there and agrees: full hash below 1 GiB, size above."""
        size = self.size(ref)
        if size is None or size >= _FULL_HASH:
            return size == ref.size
        try:
            self._stream(ref, lambda: None, lambda chunk: None)
        except (NotFound, CorruptArtifact):
            return False
        return True

    def size(self, ref: ArtifactRef) -> int | None:
        """How many bytes the object has, or None if it is gone: alone, not with its whole bucket, which is NotFound."""
        place = self._place(ref.uri)
        with self._translated(ref.uri):
            try:
                return int(self._s3.head_object(**place)["ContentLength"])
            except ClientError as err:  # it has no body, which would tell a missing bucket from a missing object
                if _status(err) != 404:
                    raise
            self._s3.list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"], MaxKeys=1)
        return None

    def _stream(self, ref: ArtifactRef, restart: Callable[[], object], sink: Callable[[bytes], object]) -> None:
        """Hand the artifact's bytes to *sink*, from the start again after each `restart`."""

        def once() -> str:
            restart()
            digest = hashlib.sha256()
            for chunk in self._s3.get_object(**self._place(ref.uri))["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
                sink(chunk)
            return digest.hexdigest()

        with self._translated(ref.uri):
            found = self._repeated(once)
        if found != ref.sha256:
            raise CorruptArtifact(
                f"{ref.uri} has sha256 {found}, not {ref.sha256}",
                remedy="delete the object and start a new run: it computes again what is gone",
            )

    # --- keys --------------------------------------------------------------------------------------------------------

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Body and etag of *key*, or None."""

        def once() -> tuple[bytes, str]:
            answer = self._s3.get_object(Bucket=self.bucket, Key=key)
            return answer["Body"].read(), answer["ETag"]

        try:
            return self._repeated(once)
        except self._s3.exceptions.NoSuchKey:
            return None
        except (ClientError, BotoCoreError) as err:
            raise self._error(err, key) from err

    def write(self, key: str, body: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> None:
        """Write *key*; raises Conflict where its etag is not *if_match*, or, with *if_none_match*, where it exists.

        A Conflict may come from a first try of this very request whose answer was lost: read again before believing it.
        """
        condition: dict[str, Any] = {"IfMatch": if_match} if if_match else {"IfNoneMatch": "*"} if if_none_match else {}
        try:
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=body, **condition)
        except (ClientError, BotoCoreError) as err:
            if condition and isinstance(err, ClientError) and (_status(err) in (409, 412) or _code(err) == "NoSuchKey"):
                raise Conflict(f"{key} has changed") from err
            raise self._error(err, key) from err

    def list(self, prefix: str, bucket: str | None = None) -> Iterator[tuple[str, int]]:
        """Key and size of each object whose key starts with *prefix*, in this bucket or another one."""
        for key, size, _ in self.versions(prefix, bucket):
            yield key, size

    def versions(self, prefix: str, bucket: str | None = None) -> Iterator[tuple[str, int, str]]:
        """The same with each object's ETag, which changes when it is written over by other bytes."""
        with self._translated(prefix):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"], entry["Size"], entry["ETag"]

    def stream(self, uri: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes *start* to *end* of any bucket's object, unverified, fewer where it is shorter; a transfer that breaks off goes on."""
        failures = 0
        while start < end:
            with self._translated(uri):
                try:
                    body = self._s3.get_object(**self._place(uri), Range=f"bytes={start}-{end - 1}")["Body"]
                except ClientError as err:
                    if _status(err) == 416:  # nothing there: the object ends before
                        return
                    raise
                try:
                    for chunk in body.iter_chunks(_CHUNK):
                        start += len(chunk)
                        failures = 0
                        yield chunk
                    return
                except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError):
                    failures += 1
                    if failures == self._attempts:
                        raise
                    time.sleep(min(5.0, 0.1 * 2**failures))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete *keys*; those that are not there are no error."""
        names = [*keys]
        for start in range(0, len(names), 1000):
            batch = names[start : start + 1000]
            with self._translated(batch[0]):
                answer = self._s3.delete_objects(Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True})
            for failure in answer.get("Errors", ()):
                if failure.get("Code") != "NoSuchKey":
                    raise ObjectsUnavailable(f"{failure.get('Key')} could not be deleted: {failure.get('Code')}")

    def uri(self, key: str) -> str:
        """The URI of *key*."""
        return f"s3://{self.bucket}/{key}"

    def storage_options(self) -> dict[str, str]:
        """Endpoint, region and credentials for polars and delta-rs; valid for as long as the credentials are."""
        options = {"aws_region": self._region, "aws_conditional_put": "etag"}
        if credentials := self._session.get_credentials():
            frozen = credentials.get_frozen_credentials()
            options |= {"aws_access_key_id": frozen.access_key or "", "aws_secret_access_key": frozen.secret_key or ""}
            if frozen.token:
                options["aws_session_token"] = frozen.token
        if self._endpoint:
            options |= {"aws_endpoint_url": self._endpoint, "aws_virtual_hosted_style_request": "false"}
            if self._endpoint.startswith("http:"):
                options["aws_allow_http"] = "true"
        return options

    # --- errors ------------------------------------------------------------------------------------------------------

    def _place(self, uri: str) -> dict[str, Any]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")  # not as a URL: a key may hold # and ?
        return {"Bucket": bucket, "Key": key}

    def _repeated(self, once: Callable[[], _T]) -> _T:
        """The answer of *once*, tried again while its body breaks off: that is all that botocore does not repeat by itself."""
        for attempt in range(1, self._attempts + 1):
            try:
                return once()
            except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError):
                if attempt == self._attempts:
                    raise
                time.sleep(min(5.0, 0.1 * 2**attempt))
        raise AssertionError("attempts is at least 1")

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except PerdureError:
            raise
        except (ClientError, BotoCoreError, OSError) as err:
            raise self._error(err, what) from err

    def _error(self, err: ClientError | BotoCoreError | OSError, what: str) -> Exception:
        where = self._endpoint or "AWS S3"
        if isinstance(err, OSError) and not isinstance(err, BotoCoreError):
            if err.errno in (errno.ENOSPC, errno.EDQUOT):
                return StorageFull(f"no room on the local disk for {what}", remedy="free disk space on the node that ran the job")
            return err
        if isinstance(err, (NoCredentialsError, PartialCredentialsError)):
            return AccessDenied("no S3 credentials were found", field="s3.access_key", remedy="set s3.access_key and s3.secret_key")
        if not isinstance(err, ClientError):
            return ObjectsUnavailable(
                f"S3 at {where} does not answer: {type(err).__name__}", remedy="see that the server runs: perdure doctor"
            )
        code = _code(err)
        if code in _FULL or _status(err) == 507:
            return StorageFull(f"S3 at {where} has no room left ({code}) for {what}", remedy="free space or raise the quota of the bucket")
        if code in _DENIED or _status(err) in (401, 403):
            return AccessDenied(
                f"S3 at {where} refused the credentials ({code}) for {what}",
                field="s3.access_key",
                remedy="see that s3.access_key and s3.secret_key name valid keys with rights on the bucket",
            )
        if code == "NoSuchBucket":
            return NotFound(
                f"bucket {urlparse(what).netloc or self.bucket!r} does not exist at {where}",
                field="s3.bucket",
                remedy="create the bucket or name another",
            )
        if _status(err) == 404:
            return NotFound(f"{what} does not exist", remedy="start a new run: it computes again what is gone")
        return ObjectsUnavailable(f"S3 at {where} answered {code} for {what}", remedy="see the server's log; perdure doctor checks it")


def _code(err: ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))


def _status(err: ClientError) -> int:
    return int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
