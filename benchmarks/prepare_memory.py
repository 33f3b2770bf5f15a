"""Prepares a csv file of several times the memory budget, each job in a process of its own, and shows the peak memory of each.

    PERDURE_HOME=.perdure python benchmarks/prepare_memory.py --memory-mb 512 --times 3

Needs the S3 of the running stack (`perdure up`). The raw result goes to ``benchmarks/results/prepare_memory.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.jobs.latest import RunState, put_request
from perdure.jobs.preparation.limits import class_names
from perdure.messages.jobs import JobKind, JobRequest
from perdure.spec import pipeline as spec

RESULTS = Path(__file__).parent / "results" / "prepare_memory.json"
STEPS = """
import pandera.polars as pa
import polars as pl

class Row(pa.DataFrameModel):
    label: str = pa.Field(isin=["a", "b"])
    text: str = pa.Field(str_length={"min_value": 1})
    number: float = pa.Field(nullable=True)

class Features:
    def fit(self, frames):
        total = rows = 0
        for frame in frames:
            total, rows = total + frame["number"].sum(), rows + frame.height
        return {"mean": total / rows}

    def apply(self, frame, state):
        return frame.select(
            (pl.col("number") - state["mean"]).alias("number"),
            pl.col("text").str.len_chars().alias("characters"),
            pl.col("text").str.count_matches("e").alias("letters e"),
        )
"""


def write_source(path: Path, size: int) -> int:
    """Write about *size* bytes of csv with quoted text (commas, quotes, line breaks), some rows twice, some bad. Returns the rows."""
    random, rows = np.random.default_rng(1), 0
    words = np.array(["the", "free", "call", "see, you", 'a "quoted" word', "line\nbreak", "tomorrow", "prize", "ähnlich"])
    with path.open("wb") as file:
        while file.tell() < size:
            count = 20_000
            chosen = words[random.integers(0, len(words), (count, 12))]
            frame = pl.DataFrame(
                {
                    "label": random.choice(["a", "b", "c"], count, p=[0.6, 0.395, 0.005]),
                    "text": [" ".join(row) for row in chosen],
                    "number": random.normal(size=count).round(3),
                }
            )
            frame = pl.concat([frame, frame.head(count // 50)])
            file.write(frame.write_csv(include_header=rows == 0).encode())
            rows += frame.height
    return rows


class Measured:
    """Runs jobs as the local engine does, and notes seconds and peak memory."""

    def __init__(self, settings: Settings, raw: dict[str, Any]) -> None:
        self.objects = ObjectStore(settings.s3)
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr(zipfile.ZipInfo("bench_steps.py"), STEPS)
        self.code = self.objects.put("code", "code.zip", code.getvalue())
        self.spec = spec.load(raw)
        self.jobs: list[dict[str, Any]] = []

    def run(self, kind: JobKind, inputs: dict[str, Any], index: int = 0) -> dict[str, Any]:
        request = JobRequest(
            job=f"bench-{uuid4()}",
            kind=kind,
            storage=f"s3://{self.objects.bucket}",
            spec=self.spec.as_json(),
            inputs=inputs,
            code=self.code,
            index=index,
        )
        ref = put_request(self.objects, request)
        started = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", "perdure.jobs.main", ref.uri, ref.sha256], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        latest = RunState(self.objects, request.job).latest()
        if latest.result is None:
            raise SystemExit(f"{kind} ended with {child.returncode}: {latest.error}")
        self.jobs.append(
            {
                "job": kind.value,
                "index": index,
                "seconds": round(time.monotonic() - started, 2),
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
                "peak_rss_mb": round(usage.ru_maxrss / 1024),
            }
        )
        print("{job:24} {index:3} {seconds:8.1f} s {cpu_seconds:8.1f} CPU-s {peak_rss_mb:6} MB".format(**self.jobs[-1]), flush=True)
        return latest.result


def prepare(run: Measured) -> dict[str, Any]:
    plan = run.run(JobKind.PLAN, {})
    indexes = range(len(plan["partitions"]))
    partitions = [run.run(JobKind.PARTITION, {"plan": plan}, index) for index in indexes]
    state = run.run(JobKind.FIT, {"plan": plan, "partitions": partitions})["state"]
    classes = class_names(run.spec.data, partitions)
    features = [
        run.run(JobKind.FEATURES, {"plan": plan, "partition": partitions[i], "state": state, "classes": classes}, i) for i in indexes
    ]
    result = run.run(JobKind.COMMIT, {"plan": plan, "partitions": partitions, "features": features, "state": state})
    return {**result["rows"], "duplicates": sum(part["duplicates"] for part in partitions)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--times", type=float, default=3.0)
    parser.add_argument("--partitions", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "big.csv"
        rows = write_source(source, int(options.memory_mb * options.times * (1 << 20)))
        data = {
            "source": {"uri": str(source), "format": "csv"},
            "schema": "bench_steps:Row",
            "target": {"column": "label", "positive": "b"},
            "transform": "bench_steps:Features",
            "deduplicate": True,
            "partitions": options.partitions,
            "memory_mb": options.memory_mb,
        }
        run = Measured(Settings(), {"name": "bench-memory", "data": data})
        print(f"{source.stat().st_size >> 20} MB, {rows} rows, budget {options.memory_mb} MB; load {os.getloadavg()[0]:.1f}")
        counts = prepare(run)
        result = {
            "benchmark": "prepare_memory",
            "source_mb": source.stat().st_size >> 20,
            "rows": rows,
            "budget_mb": options.memory_mb,
            "partitions": options.partitions,
            "peak_rss_mb": max(job["peak_rss_mb"] for job in run.jobs),
            "counts": counts,
            "jobs": run.jobs,
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "system": platform.platform(),
                "load": os.getloadavg(),
            },
            "versions": {name: version(name) for name in ("polars", "pyarrow", "deltalake", "pandera")},
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(f"peak {result['peak_rss_mb']} MB of {options.memory_mb} MB; {counts}; written to {RESULTS}")


if __name__ == "__main__":
    main()
