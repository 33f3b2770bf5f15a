"""Do all places give the same scores? Evaluation, the command line, batches (of a data set, of a file), serving, a stock MLflow client.

``python -m benchmarks.identical [--ray]``; with a batch on Ray, too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import record, run_pipeline, running_stack
from tests.e2e.scoring import Places, project

SERVICES = ("postgres", "s3", "temporal", "mlflow", "worker", "reconciler", "serving")
RAY = "--ray"


def main() -> None:
    """Each place scores the same raw rows; every probability is compared bit for bit with evaluation's."""
    with_ray = RAY in sys.argv[1:]
    with tempfile.TemporaryDirectory() as name, running_stack((*SERVICES, *(["ray"] if with_ray else []))) as settings:
        folder = Path(name)
        places = Places(settings, run_pipeline(settings, project(folder)), folder)
        expected = places.evaluation()
        key = f"{time.time_ns()}"
        on_ray = (
            {}
            if not with_ray
            else {"batch, on Ray": lambda: places.batch(str(folder / "raw.csv"), f"ray-{key}", "--shards", "3", "--engine", "ray")}
        )
        compared: dict[str, Any] = {}
        for place, scores in {**places.all(f"-{key}"), **on_ray}.items():
            began = time.monotonic()
            made = scores()
            differing = sum(a != b for a, b in zip(made, expected, strict=True))
            compared[place] = {"rows": len(made), "differing": differing, "seconds": round(time.monotonic() - began, 2)}
            print(place, compared[place], flush=True)
        record("identical", {"rows": len(expected), "different_scores": len(set(expected)), "places": compared})
        if any(each["differing"] for each in compared.values()):
            raise SystemExit("some places score differently")


if __name__ == "__main__":
    main()
