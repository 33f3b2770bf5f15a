"""Whether what was read can be learned from: a pure function of the partitions' results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perdure.errors import DataRejected, InvalidInput
from perdure.messages.common import Json
from perdure.spec.pipeline import Data

MOST_CLASSES = 1_000
_TOLD = 5


def check(data: Data, partitions: list[Json]) -> None:
    """Raises DataRejected, or InvalidInput where the positive class is none of those found."""
    rows, quarantined = (sum(part[key] for part in partitions) for key in ("rows", "quarantined"))
    share = quarantined / max(1, rows + quarantined)
    worst = _told(failures(partitions))
    if share > data.limits.quarantined:
        raise DataRejected(
            f"{quarantined} of {rows + quarantined} rows ({share:.2%}) were set aside, {data.limits.quarantined:.2%} are allowed{worst}",
            field="data.limits.quarantined",
            remedy="mend the source, the schema or the target; raise the limit only if these rows do not matter",
        )
    if rows < data.limits.min_rows:
        raise DataRejected(
            f"{rows} valid rows, at least {data.limits.min_rows} are wanted{worst}",
            field="data.limits.min_rows",
            remedy="see that the source is complete",
        )
    if data.target.task == "classification":
        _check_classes(data, partitions)
    for split in ("train", "test"):
        if not any(part["files"][split] for part in partitions):
            raise DataRejected(
                f"no row fell into the {split} split", field="data.split", remedy="give more rows, another share, seed or column"
            )


def class_names(data: Data, partitions: list[Json]) -> list[str]:
    """The classes found, sorted, the positive one last; none for regression."""
    if data.target.task != "classification":
        return []
    names = sorted(_classes(partitions, "classes"))
    positive = data.target.positive
    return [name for name in names if name != positive] + [positive] if positive in names else names


def failures(partitions: Iterable[Json]) -> list[Json]:
    """Kinds of failure over all partitions, the most frequent first."""
    made: dict[tuple[str, str], Json] = {}
    for failure in (failure for part in partitions for failure in part["failures"]):
        known = made.setdefault((failure["column"], failure["check"]), {**failure, "count": 0})
        known["count"] += failure["count"]
        known["example"] = known["example"] or failure["example"]
    return sorted(made.values(), key=lambda failure: (-failure["count"], failure["column"], failure["check"]))


def check_number(data: Data, classes: int) -> None:
    """Raises DataRejected where the target has too many different values to be a class."""
    if classes > MOST_CLASSES:
        raise DataRejected(
            f"the target {data.target.column!r} has more than {MOST_CLASSES} different values",
            field="data.target.task",
            remedy="set data.target.task: regression for a number, or name the column that holds the class",
        )


def _check_classes(data: Data, partitions: list[Json]) -> None:
    target, found = data.target, _classes(partitions, "classes")
    check_number(data, len(found))
    told = ", ".join(f"{name} ({n} rows)" for name, n in found.most_common(10))
    if new := found.keys() - _classes([part for part in partitions if "answered" not in part], "classes").keys():
        raise DataRejected(
            f"people labeled predictions {', '.join(sorted(new))}, which no row of the source is",
            field="ask.learn",
            remedy="give the source rows of it; or have data.schema refuse it (isin), which sets these rows aside; or `learn: false`",
        )
    if len(found) < 2:
        raise DataRejected(
            f"the target {target.column!r} has one class only: {told}",
            field="data.target.column",
            remedy="see that the source holds examples of every class, and that the column is the right one",
        )
    if target.positive is not None and target.positive not in found:
        raise InvalidInput(
            f"{target.positive!r} is no class of {target.column!r}; found: {told}",
            field="data.target.positive",
            remedy="write the class as it is in the data",
        )
    if target.positive is not None and len(found) > 2:
        raise InvalidInput(
            f"a positive class is one of two, but {target.column!r} has {len(found)}: {told}",
            field="data.target.positive",
            remedy="leave it out for several classes",
        )
    learned = _classes(partitions, "train_classes")
    absent = found.keys() - learned.keys()
    # where people are asked, they may meet a rare class first in the test set: it waits for more
    asked = any("labeled" in part for part in partitions)
    if absent and not (asked and len(learned) > 1):
        raise DataRejected(
            f"no row of the class {', '.join(sorted(absent))} fell into the training split",
            field="data.split",
            remedy="give more rows of it, another share, seed or column",
        )


def _classes(partitions: list[Json], key: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for part in partitions:
        counts.update(part[key])
    return counts


def _told(found: list[Json]) -> str:
    lines = []
    for failure in found[:_TOLD]:
        what = f"{failure['column']}: {failure['check']}" if failure["column"] else failure["check"]
        example = f", for example {failure['example']!r}" if failure["example"] is not None else ""
        lines.append(f"\n  {what} ({failure['count']} row{'s' * (failure['count'] != 1)}){example}")
    return "".join(lines)
