"""What a process loads: the import rules that a linter of modules cannot express."""

from __future__ import annotations

import subprocess
import sys

import pytest

JOB = "perdure.jobs.main, perdure.jobs.preparation, perdure.jobs.training, perdure.jobs.evaluation, perdure.predictor"


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (JOB, {"temporalio.client", "temporalio.worker", "sqlalchemy", "mlflow", "ray"}),
        ("perdure.workflows.pipeline", {"sqlalchemy", "boto3", "polars", "numpy", "ray", "mlflow"}),
        ("perdure.workers.bootstrap", {"polars", "numpy", "ray", "mlflow", "xgboost"}),
        ("perdure.cli.main", {"sqlalchemy", "boto3", "polars", "temporalio.client", "mlflow"}),
    ],
)
def test_a_process_loads_only_what_it_needs(modules: str, absent: set[str]) -> None:
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not absent & loaded
