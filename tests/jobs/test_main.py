"""What a job that cannot reach S3 leaves behind: nothing but its output."""

from __future__ import annotations

import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.config import S3Settings
from perdure.errors import ObjectsUnavailable
from perdure.jobs import main
from perdure.local import ports
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import EXIT_ERROR
from perdure.printed import error_line, printed_error


def test_an_unreachable_store_is_printed_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = f"http://127.0.0.1:{ports.spare()}"
    monkeypatch.setattr(main, "object_store", lambda bucket: ObjectStore(S3Settings(endpoint=nobody, bucket=bucket), attempts=1))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = main.run_job(ArtifactRef(uri="s3://bucket/jobs/none/request.json", sha256="0" * 64))
    told = printed_error(capsys.readouterr().out)
    assert code not in (0, EXIT_ERROR)
    assert isinstance(told, ObjectsUnavailable)
    assert nobody in told.problem


@pytest.mark.parametrize(
    "line", ["", "perdure-error", "perdure-error ", "perdure-error {", "perdure-error 3", 'say perdure-error {"type": "x"}']
)
def test_other_output_is_no_error(line: str) -> None:
    assert printed_error(f"before\n{line}\nafter") is None


def test_the_last_error_counts() -> None:
    first, last = ObjectsUnavailable("first"), ObjectsUnavailable("last", field="f", remedy="r")
    found = printed_error("\n".join(["begin", error_line(first), "between", error_line(last), "end"]))
    assert found is not None
    assert found.as_dict() == last.as_dict()
