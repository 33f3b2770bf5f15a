"""Drift of many rows: ours beside Evidently on the same parquet files, and ours alone where memory must stay flat.

    python -m benchmarks.drift [--rows 1000000] [--large 10000000] [--columns 30]

Evidently gets an environment of its own, by the lock in ``benchmarks/evidently.txt``. Each is a process that begins with two files (what is
normal, what is now) and ends with a verdict for each column; imports are not counted, reading the files is. ``look`` is ours when the
reference is known, as it is after the first look. Then the power of the detectors, and alarms without drift, in `benchmarks.drift_world`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pyarrow import parquet

from benchmarks.common import ROOT, record
from benchmarks.drift_world import YEAR, Drift, Simulation, World, confirmed

HOME = ROOT / ".perdure" / "bench-drift"
EVIDENTLY = ROOT / ".perdure" / "evidently"
LOCK = Path(__file__).with_name("evidently.txt")
_GROUP = 131_072
THEIRS = """
import json, resource, sys, time
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

started, cpu = time.perf_counter(), time.process_time()
reference, current = (pd.read_parquet(path) for path in sys.argv[1:3])
kinds = {kind: [name for name in current.columns if name.startswith(kind[:3])] for kind in ("numerical", "categorical")}
about = DataDefinition(numerical_columns=kinds["numerical"], categorical_columns=kinds["categorical"])
made = [Dataset.from_pandas(frame, data_definition=about) for frame in (current, reference)]
result = json.loads(Report([DataDriftPreset()], include_tests=True).run(*made).json())
drifted = [test["name"] for test in result["tests"] if test["status"] == "FAIL"]
print(json.dumps({
    "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "drifted": len(drifted),
}))
"""
OURS = """
import json, resource, sys, time
import numpy as np
import polars as pl
from perdure.jobs.preparation import profile
from perdure.jobs.preparation.tables import batches, opened
from perdure.messages.retraining import DriftKind
from perdure.monitoring import drift
from perdure.monitoring.bins import Bins
from perdure.monitoring.reference import Counting
from perdure.monitoring.windows import Window
from perdure.spec.monitor import Monitor

started, cpu = time.perf_counter(), time.process_time()

def parts(path):
    with opened(path) as table:
        yield from batches(table, 32 << 20)

told = None
for frame in parts(sys.argv[1]):
    one = profile.measure(frame, set())
    told = one if told is None else profile.merge([told, one])
bins = [each for name in told if (each := Bins.of(name, told[name], profile.quantile))]
counting = Counting(bins)
for frame in parts(sys.argv[1]):
    counting.add(frame)
normals = counting.normals()
known, known_cpu = time.perf_counter(), time.process_time()
window = Window(normals)
for frame in parts(sys.argv[2]):  # a scan of a local file would map it into memory; a look reads from S3
    window.add(frame)
wanted = Monitor()
found = drift.columns("requests", DriftKind.DATA, window.counted(), normals, window.span(1.0), wanted)
ended, ended_cpu = time.perf_counter(), time.process_time()
print(json.dumps({
    "seconds": ended - started, "cpu_seconds": ended_cpu - cpu, "look_seconds": ended - known, "look_cpu_seconds": ended_cpu - known_cpu,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "drifted": len({test["feature"] for test in found.metrics if test["drifted"]}), "rows": found.n,
}))
"""


def write(path: Path, rows: int, columns: int, shift: float, seed: int) -> None:
    """Four numbers for each category; the first three columns move by *shift* standard deviations."""
    if path.exists():
        return
    random, writer = np.random.default_rng(seed), None
    path.parent.mkdir(parents=True, exist_ok=True)
    for start in range(0, rows, _GROUP):
        count = min(_GROUP, rows - start)
        made: dict[str, Any] = {}
        for index in range(columns):
            if index % 5 == 4:
                made[f"cat{index}"] = np.array(["red", "green", "blue", "black"])[random.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])]
            else:
                made[f"num{index}"] = random.normal(shift if index < 3 else 0.0, size=count)
        table = pl.DataFrame(made).to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or parquet.ParquetWriter(path.with_suffix(".part"), table.schema, compression="zstd", compression_level=1)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    path.with_suffix(".part").rename(path)


def evidently() -> Path:
    """The Python of Evidently's own environment, which is made where it is missing."""
    python = EVIDENTLY / "bin" / "python"
    if not (EVIDENTLY / "ready").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(EVIDENTLY)], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(LOCK)], check=True)
        (EVIDENTLY / "ready").touch()
    return python


def measured(python: Path | str, script: str, *files: Path) -> dict[str, Any]:
    """What *script* says of itself."""
    told = subprocess.run(
        [str(python), "-W", "ignore", "-c", script, *map(str, files)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    figures: dict[str, Any] = json.loads(told.stdout.strip().splitlines()[-1])
    return {name: round(value, 2) for name, value in figures.items()}


def beside(rows: int, columns: int, repeats: int) -> dict[str, Any]:
    files = [HOME / f"{name}-{rows}x{columns}.parquet" for name in ("normal", "now")]
    write(files[0], rows, columns, 0.0, 1)
    write(files[1], rows, columns, 0.5, 2)
    theirs, ours = [], []
    for _ in range(repeats):  # in turns, as the machine may have others on it
        theirs.append(measured(evidently(), THEIRS, *files))
        ours.append(measured(sys.executable, OURS, *files))
    best = [min(each, key=lambda one: one["cpu_seconds"]) for each in (theirs, ours)]
    ratio = {name: round(best[0][name] / best[1][name], 1) for name in ("seconds", "cpu_seconds")}
    ratio["look_seconds"] = round(best[0]["seconds"] / best[1]["look_seconds"], 1)
    rates = {
        "evidently": round(rows / best[0]["seconds"]),
        "ours": round(rows / best[1]["seconds"]),
        "look": round(rows / best[1]["look_seconds"]),
    }
    return {"rows": rows, "columns": columns, "evidently": theirs, "ours": ours, "rows_per_second": rates, "times_faster": ratio}


def alone(sizes: list[int], columns: int) -> list[dict[str, Any]]:
    """Peak memory by rows."""
    made = []
    for rows in sizes:
        files = [HOME / f"{name}-{rows}x{columns}.parquet" for name in ("normal", "now")]
        write(files[0], rows, columns, 0.0, 1)
        write(files[1], rows, columns, 0.5, 2)
        made.append({"rows": rows, **measured(sys.executable, OURS, *files)})
        print(json.dumps(made[-1]), flush=True)
        for file in files if rows > 1_000_000 else []:
            file.unlink()
    return made


def power(trials: int, **world: Any) -> dict[str, Any]:
    """The share of planted drifts that three windows in a row confirm within four, in worlds that begin anywhere in the week."""
    made: dict[str, Any] = {}
    for name, monitor, planted in (
        ("0.5 sd in 3 of 50 features", "requests", {"features": 3, "shift": 0.5}),
        ("5 points of error", "quality", {"error": 0.05}),
    ):
        hits = 0
        for seed in range(trials):
            start = 48 + int(np.random.default_rng(seed).integers(168))
            looks = next(Simulation(1_000 + seed, World(**world)).looks(start + 4 * 24, Drift(start=start, **planted), chunk=YEAR))
            hits += confirmed(looks, monitor, 3, since=start) is not None
        made[name] = round(hits / trials, 4)
    return made


def quiet(years: int, **world: Any) -> dict[str, Any]:
    """Drifted looks without drift, by monitor; what a policy makes of them is `benchmarks.false_actions`."""
    looked, drifted = 0, {}
    for seed in range(years):
        for looks in Simulation(seed, World(**world)).looks(YEAR):
            looked += len(looks.ends)
            for name, found in looks.drifted.items():
                drifted[name] = drifted.get(name, 0) + int(found.sum())
    return {"looks": looked, "drifted_share": {name: round(count / looked, 5) for name, count in drifted.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--large", type=int, default=10_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--years", type=int, default=4)
    options = parser.parse_args()
    result: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    result["beside_evidently"] = beside(options.rows, options.columns, options.repeats)
    print(json.dumps(result, indent=1), flush=True)
    result["alone"] = alone([options.rows, options.large], options.columns)
    result["power"] = {
        "as it is": power(options.trials),
        "weather half as strong again": power(options.trials // 2, lasting=0.15),
    }
    result["quiet"] = quiet(options.years)
    record("drift", result)


if __name__ == "__main__":
    main()
