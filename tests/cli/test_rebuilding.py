"""A job that makes a data set again: its error is told as what it is, also where it could only be printed."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.s3 import ObjectStore
from perdure.cli import rebuilding
from perdure.errors import AccessDenied
from perdure.messages.jobs import JobKind, JobRequest
from tests.servers import Stack


def test_an_error_that_the_job_could_only_print(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = stack.isolated()
    monkeypatch.setenv("WRONG", "wrong")
    refused = settings.model_copy(update={"home": tmp_path, "s3": settings.s3.model_copy(update={"secret_key": "env:WRONG"})})
    request = JobRequest(job=f"rebuild-{uuid4()}", kind=JobKind.REBUILD, storage=settings.storage, spec={})
    with pytest.raises(AccessDenied, match="refused the credentials"):
        rebuilding._run(request, S3JobFiles(ObjectStore(settings.s3)), refused)
