"""The pipeline specification: YAML for people, one validated value for everybody else.

`load` (parsed JSON) and `load_file` (YAML with lines) report every mistake at once, each with its path and what was probably meant.
`with_params` applies a run's parameters. The JSON Schema for editors is `json_schema()`, kept in ``docs/pipeline.schema.json``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, ValidationError

from perdure.errors import InvalidInput, PerdureError, UnknownTrainer
from perdure.keys import digest
from perdure.spec.experiment import unfit
from perdure.spec.feedback import Ask, Log
from perdure.spec.fields import CODE_FORM, CODE_REFERENCE, CodeReference, ColumnName, Duration, Name, Params, duration
from perdure.spec.human import Human
from perdure.spec.label import Label
from perdure.spec.mistakes import Mistake, Where, explain, hidden, meant, mistake, show
from perdure.spec.monitor import Monitor
from perdure.spec.part import Broken, Part
from perdure.spec.retrain import Policy
from perdure.spec.rollout import Promote
from perdure.spec.triggers import Trigger
from perdure.spec.xgboost_parameters import PARAMETERS, ROUNDS
from perdure.spec.yamlfile import Document, read

TRAINERS = ("xgboost",)
METRICS = {
    "classification": ("roc_auc", "pr_auc", "log_loss", "accuracy", "f1", "precision", "recall", "brier"),
    "regression": ("mae", "rmse", "r2"),
}
LOWER_IS_BETTER = ("log_loss", "brier", "mae", "rmse")
REMEDY = "mend the fields above; `perdure schema` prints the JSON Schema for your editor"


class Source(Part):
    """Where the raw rows come from: a file, a glob, or a prefix, on disk or S3."""

    uri: str = Field(
        min_length=1,
        description="path (relative to the specification), file:// or s3:// URI; a glob or a trailing slash names several files",
        examples=["data/messages.tsv", "s3://bucket/events/2026/*.parquet"],
    )
    format: Literal["csv", "tsv", "parquet"] = Field(description="how the files are written")
    columns: list[ColumnName] | None = Field(None, description="names, where a csv or tsv file has no header row")
    quoting: bool | None = Field(None, description="whether double quotes enclose fields; default: yes for csv, no for tsv")
    null_values: list[str] = Field(default_factory=list, description="texts that stand for a missing value", examples=[["NA", ""]])

    def rules(self) -> Broken:
        """The address is one that jobs can read; only text files need to be told their columns; no column is named twice."""
        scheme, separator, rest = self.uri.partition("://")
        if separator and scheme not in ("file", "s3"):
            yield ("uri",), f"must be a path, file:// or s3:// URI, not {show(self.uri)}", ()
        elif separator and (not rest or rest.startswith("/") != (scheme == "file")):
            form = "file:///absolute/path" if scheme == "file" else "s3://bucket/key"
            yield ("uri",), f"must be written {form}, not {show(self.uri)}", ()
        if self.format == "parquet":
            for name in ("columns", "quoting"):
                if getattr(self, name) is not None:
                    yield (name,), "a parquet file says this itself; leave it out", ("format",)
            if self.null_values:
                yield ("null_values",), "a parquet file says this itself; leave it out", ("format",)
        for index, column in enumerate(self.columns or []):
            if column in (self.columns or [])[:index]:
                yield ("columns", index), f"{show(column)} is named twice", ()


class Target(Part):
    """The column to be predicted; ``positive`` names the positive class of two."""

    column: ColumnName = Field(description="the column of the raw rows that holds the truth")
    positive: str | None = Field(None, description="the positive class of two, as it is written in the data", examples=["spam"])
    task: Literal["classification", "regression"] = Field("classification", description="a class, or a number")

    def rules(self) -> Broken:
        """Only classes have a positive one."""
        if self.task == "regression" and self.positive is not None:
            yield ("positive",), "a regression has no positive class; leave it out, or set `task: classification`", ("task",)


class Split(Part):
    """Which rows are the test set: by row hash (equal rows fall together; it survives new rows), by time (the latest) or by group."""

    by: Literal["hash", "time", "group"] = Field("hash", description="hash of the row, time (the latest rows are tested on), or group")
    test: float = Field(0.2, gt=0, lt=1, description="share of the rows that is tested on")
    seed: int = Field(0, description="another seed gives another split")
    column: ColumnName | None = Field(None, description="the time or group column")

    def rules(self) -> Broken:
        """A time or group is a column, a hash is none."""
        if self.by != "hash" and self.column is None:
            yield ("column",), f"missing: name the {self.by} column", ("by", "column")
        if self.by == "hash" and self.column is not None:
            yield ("column",), "a split by hash takes no column; leave it out, or set `by: time` or `by: group`", ("by",)


class Limits(Part):
    """How much bad data a preparation may set aside before it fails."""

    quarantined: float = Field(0.05, ge=0, le=1, description="largest share of rows that may fail validation")
    min_rows: int = Field(10, ge=1, description="fewest valid rows")


class Data(Part):
    """The raw rows, what they must look like, and how they become training rows."""

    source: Source = Field(description="where the raw rows come from")
    schema_: CodeReference | None = Field(None, alias="schema", description="a pandera (polars) model of the raw rows")
    target: Annotated[
        Target,
        BeforeValidator(lambda value: {"column": value} if isinstance(value, str) else value, json_schema_input_type=ColumnName | Target),
    ] = Field(description="the column to be predicted: its name, or a mapping", examples=["price", {"column": "label", "positive": "spam"}])
    split: Split = Field(Split(), description="which rows are the test set")
    until: AwareDatetime | None = Field(
        None,
        description="the data cut-off: later rows, by the column of a split by time, are left out; a run's `cutoff` sets it",
        examples=["2026-11-01T00:00:00Z"],
    )
    transform: CodeReference | None = Field(
        None, description="a function apply(frame), or a class with fit(frames) and apply(frame, state)"
    )
    deduplicate: bool = Field(False, description="whether of equal rows only the first one counts")
    partitions: int = Field(4, ge=1, le=10_000, description="parts that are prepared one by one, each committed once")
    window: int = Field(4, ge=1, le=100, description="partitions in flight at once")
    limits: Limits = Field(Limits(), description="how much bad data is put up with")
    memory_mb: int = Field(1024, ge=64, description="what one preparation job may hold in memory")
    stall: Duration = duration("6h", "a job of the preparation that says nothing for this long is stopped and started again")

    def rules(self) -> Broken:
        """Columns that are named must exist, where the specification itself names them all."""
        named = {("target", "column"): self.target.column, ("split", "column"): self.split.column}
        for where, column in named.items():
            if column and self.source.columns and column not in self.source.columns:
                yield where, f"{show(column)} is not in data.source.columns{meant(column, self.source.columns)}", ("source", where[0])
        if self.until is not None and self.split.by != "time":
            yield ("until",), "only a split by time tells which rows are later; leave it out, or set `split.by: time`", ("until", "split")


class Scaling(Part):
    """The worker group. The number of workers is part of a run's identity: another number gives another model."""

    workers: int = Field(1, ge=1, le=1024, description="processes that train together")
    cpus_per_worker: float = Field(1, gt=0, description="cores of each")
    gpus_per_worker: float = Field(0, ge=0, description="GPUs of each")
    accelerator: str | None = Field(None, description="the type of GPU, as the cluster names it", examples=["A100"])
    allow_cpu: bool = Field(False, description="train on CPU where the cluster has no GPU; never silently")


class CheckpointPolicy(Part):
    """How often a training state is committed: the most rounds that a kill can cost."""

    every_rounds: int = Field(20, ge=1, description="rounds between two checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept")


class Train(Part):
    """The trainer and its parameters; ``params.rounds`` is the number of boosting rounds or epochs."""

    trainer: str = Field("xgboost", description="`xgboost`, or package.module:function of the trainer contract", examples=["xgboost"])
    predict: CodeReference | None = Field(
        None, description="for a trainer of one's own: predict(model_dir, features) -> scores, one column per class"
    )
    params: Params = Field(
        default_factory=dict,
        description="given to the trainer; `rounds` is the number of boosting rounds or epochs",
        examples=[{"objective": "binary:logistic", "max_depth": 6, "rounds": 200}],
    )
    engine: Literal["ray", "local"] = Field("ray", description="a Ray cluster, or one process beside the worker")
    scaling: Scaling = Field(Scaling(), description="the worker group")
    checkpoint: CheckpointPolicy = Field(CheckpointPolicy(), description="how often the training state is committed")
    stall: Duration = duration("15m", "a job whose progress stands still for this long is stopped and started again")

    def rules(self) -> Broken:
        """The trainer exists, its parameters are known, and the engine can hold the group."""
        own = re.match(CODE_REFERENCE, self.trainer)
        if not own and self.trainer not in TRAINERS:
            guess = meant(self.trainer, TRAINERS) or f"; one of your own is {CODE_FORM}"
            text = f"there is no trainer {show(self.trainer)}{guess}"
            yield ("trainer",), text, ("trainer",)
        if own and not self.predict:
            text = "missing: a trainer of one's own needs package.module:function that scores features with its files"
            yield ("predict",), text, ("trainer", "predict")
        rounds = self.params.get(ROUNDS, 100)
        if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= 1_000_000:
            yield ("params", ROUNDS), f"must be a whole number from 1 to 1000000, not {show(rounds)}", ("params",)
        if self.trainer == "xgboost":
            for name in self.params:
                if name not in PARAMETERS | {ROUNDS}:
                    text = f"XGBoost knows no such parameter{meant(name, sorted(PARAMETERS | {ROUNDS}))}"
                    yield ("params", name), text, ("trainer", "params")
        if self.engine == "local" and self.scaling.workers != 1:
            yield ("scaling", "workers"), "the local engine has one worker; use `engine: ray` for a group", ("engine", "scaling")


class Slice(Part):
    """Rows grouped by the values of a column of the raw rows or of the transform's output."""

    column: ColumnName = Field(description="the column whose values make the groups")
    min_rows: int = Field(20, ge=1, description="smaller groups are left out")


class Gate(Part):
    """A condition on a metric, on all rows or on every slice of a column.

    Either a bound on its value, or a bound on its change against the champion re-scored on the same rows.
    """

    metric: str = Field(description="one of the task's metrics", examples=["roc_auc"])
    min: float | None = Field(None, description="least value")
    max: float | None = Field(None, description="greatest value")
    min_change: float | None = Field(None, description="least change against the champion; -0.002: may be worse by as much")
    max_change: float | None = Field(None, description="greatest change against the champion, for a metric that should be low")
    versus: Literal["champion"] | None = Field(None, description="what a change is measured against")
    slice: ColumnName | None = Field(None, description="hold it on every slice of this column, not on all rows")

    def rules(self) -> Broken:
        """Exactly one condition, and a change is a change against something."""
        conditions = ("min", "max", "min_change", "max_change")
        given = [name for name in conditions if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "there is none"
            yield (), f"give exactly one of min, max, min_change, max_change; {found}", conditions
        elif given[0].endswith("_change") and self.versus is None:
            yield ("versus",), f"missing: {given[0]} needs `versus: champion`", (*conditions, "versus")
        elif not given[0].endswith("_change") and self.versus is not None:
            text = f"{given[0]} is a bound on the value itself; leave versus out, or use min_change or max_change"
            yield ("versus",), text, (*conditions, "versus")


class Evaluate(Part):
    """Metrics on the test split, slices, and the gates that a model must pass to be released."""

    metrics: list[str] = Field(default_factory=list, description="default: all of the task's metrics", examples=[["roc_auc", "log_loss"]])
    slices: list[Slice] = Field(default_factory=list, description="groups of rows that are looked at by themselves")
    gates: list[Gate] = Field(default_factory=list, description="conditions that a model must meet to be released")
    human: Human | None = Field(None, description="whether people compare the model with the one that serves")
    stall: Duration = duration("6h", "an evaluation that says nothing for this long is stopped and started again")

    def rules(self) -> Broken:
        """A gate on slices needs slices."""
        columns = [each.column for each in self.slices]
        for index, gate in enumerate(self.gates):
            if gate.slice and gate.slice not in columns:
                text = f"{show(gate.slice)} is no column of evaluate.slices{meant(gate.slice, columns)}"
                yield ("gates", index, "slice"), text, ("slices", "gates")


class Pipeline(Part):
    """One whole pipeline: from raw rows to a released model."""

    name: Name = Field(description="names the pipeline in commands and workflow ids", examples=["moderation"])
    owner: str | None = Field(None, description="who is told", examples=["trust@example.org"])
    model: Name | None = Field(None, description="the model's name; default: the pipeline's")
    data: Data = Field(description="the raw rows, and how they become training rows")
    train: Train = Field(Train(), description="the trainer, its parameters and its workers")
    evaluate: Evaluate = Field(Evaluate(), description="metrics, slices and gates")
    label: Label | None = Field(None, description="whether and how people are asked about rows that have no label")
    promote: Promote = Field(Promote(), description="how a model that passed its gates is released")
    log: Log = Field(Log(), description="what is kept of predictions")
    ask: Ask | None = Field(None, description="whether and about which predictions people are asked")
    monitor: Monitor | None = Field(None, description="whether and how the model is watched while it serves")
    triggers: list[Trigger] = Field(
        default_factory=list, max_length=50, description="reasons other than drift to train", examples=[[{"schedule": "0 3 * * 1"}]]
    )
    patience: Duration = duration("10m", "how long a step waits for an unreachable part")

    @property
    def model_name(self) -> str:
        """The name under which models of this pipeline are registered."""
        return self.model or self.name

    @property
    def policy(self) -> Policy:
        """What decides about retraining."""
        return self.monitor or Policy()

    @property
    def code_references(self) -> list[str]:
        """Every ``package.module:attribute`` of the owner's project that jobs will import."""
        return [reference for _, reference in self.named_code]

    @property
    def named_code(self) -> list[tuple[Where, str]]:
        """`code_references` with the field that names each."""
        named = {
            ("data", "schema"): self.data.schema_,
            ("data", "transform"): self.data.transform,
            ("train", "predict"): self.train.predict,
            ("train", "trainer"): self.train.trainer if ":" in self.train.trainer else None,
        }
        return [(where, reference) for where, reference in named.items() if reference]

    def as_json(self) -> dict[str, Any]:
        """The canonical JSON form, which `load` reads back to an equal value."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def sha256(self) -> str:
        """The digest of the canonical form."""
        return digest(self.as_json())

    def rules(self) -> Broken:
        """What concerns several parts."""
        for where, text in across(self.as_json()):
            yield where, text, ()


def across(raw: Any) -> Iterator[tuple[Where, str]]:
    """What parts of a specification contradict in each other, also where *raw* has other mistakes."""
    task = _look(raw, "data", "target", "task") or "classification"
    known = METRICS.get(task if isinstance(task, str) else "", ())
    named: list[tuple[Where, Any]] = [(("evaluate", "metrics", i), metric) for i, metric in enumerate(_items(raw, "evaluate", "metrics"))]
    named += [(("evaluate", "gates", i, "metric"), _look(gate, "metric")) for i, gate in enumerate(_items(raw, "evaluate", "gates"))]
    if label := _look(raw, "label"):
        named += [(("label", "metric"), _look(label, "metric"))]
        yield from _labeling(raw, label, task)
    yield from _shown(raw, "evaluate", "human", "columns")
    yield from _shown(raw, "ask", "payload")
    if task == "regression" and _look(raw, "ask", "confident_below"):
        yield ("ask", "confident_below"), "a regression gives no probabilities to be confident by; leave it out"
    yield from _experiments(raw, task)
    for index, trigger in enumerate(_items(raw, "triggers")):
        if (dataset := _look(trigger, "dataset")) is not None and dataset == _look(raw, "name"):
            yield ("triggers", index, "dataset"), "is this pipeline itself: each run would ask for the next one"
    for where, metric in named:
        if known and isinstance(metric, str) and metric not in known:
            yield where, f"{show(metric)} is no metric of a {task}{meant(metric, known)}"
    objective = _look(raw, "train", "params", "objective")
    if isinstance(objective, str) and objective.startswith(("binary:", "multi:")) and task == "regression":
        yield ("train", "params", "objective"), f"{show(objective)} learns classes, but data.target.task is regression"
    if objective in ("reg:squarederror", "reg:absoluteerror") and task == "classification":
        yield ("train", "params", "objective"), f"{show(objective)} learns numbers, but data.target.task is classification"


def _experiments(raw: Any, task: Any) -> Iterator[tuple[Where, str]]:
    """What experiments of a rollout and the data contradict in each other."""
    columns = _items(raw, "data", "source", "columns")
    for index, step in enumerate(_items(raw, "promote", "rollout")):
        here = ("promote", "rollout", index, "experiment")
        if why := unfit(_look(step, "experiment", "metric"), task):
            yield (*here, "metric"), why
        unit = _look(step, "experiment", "unit")
        if isinstance(unit, str) and unit == _target(raw):
            yield (*here, "unit"), f"{show(unit)} is the target, which requests do not have"
        elif isinstance(unit, str) and columns and unit not in columns:
            yield (*here, "unit"), f"{show(unit)} is not in data.source.columns{meant(unit, columns)}"


def _labeling(raw: Any, label: Any, task: Any) -> Iterator[tuple[Where, str]]:
    """What `label` and the data contradict in each other."""
    positive, choices = _look(raw, "data", "target", "positive"), _items(label, "choices")
    if task == "regression":
        if (_look(label, "strategy") or "margin") != "random":
            yield ("label", "strategy"), "a regression gives no probabilities to be unsure by; use `strategy: random`"
        if _look(label, "when"):
            yield ("label", "when"), "a regression gives no probabilities to be confident by; leave it out"
        if _look(label, "consensus") == "dawid_skene":
            yield ("label", "consensus"), "Dawid-Skene needs classes; numbers are decided by their median: leave it out"
        if choices:
            yield ("label", "choices"), "a regression has no classes; leave it out: people are asked for a number"
    elif positive and choices and (positive not in choices or len(choices) != 2):
        yield ("label", "choices"), f"must be the two classes of data.target, of which {show(positive)} is the positive one"
    yield from _shown(raw, "label", "payload")


def _shown(raw: Any, *where: str) -> Iterator[tuple[Where, str]]:
    """Columns that people are shown must exist; the target is what they are asked about."""
    target, columns = _target(raw), _items(raw, "data", "source", "columns")
    for index, name in enumerate(_items(raw, *where)):
        if name == target:
            yield (*where, index), f"{show(name)} is the target, which people are asked about"
        elif columns and name not in columns:
            yield (*where, index), f"{show(name)} is not in data.source.columns{meant(name, columns)}"


def _target(raw: Any) -> Any:
    target = _look(raw, "data", "target")
    return target if isinstance(target, str) else _look(target, "column")


def _look(raw: Any, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _items(raw: Any, *path: str) -> list[Any]:
    found = _look(raw, *path)
    return found if isinstance(found, list) else []


def check(raw: Any, document: Document | None = None, prefix: str = "") -> Pipeline | list[Mistake]:
    """The pipeline that *raw* describes, or every mistake in it, by line; *prefix* stands before the paths."""
    try:
        return Pipeline.model_validate(raw)
    except ValidationError as err:
        errors = err.errors(include_url=False)
    found = dict.fromkeys(explain([*errors, *hidden(Pipeline, raw, [error["loc"] for error in errors])], json_schema()))
    found |= dict.fromkeys(across(raw))
    return sorted((mistake(where, text, document, prefix) for where, text in found), key=lambda m: m.line)


def load(raw: Any, path: str = "") -> Pipeline:
    """The pipeline that *raw* (parsed YAML or JSON) describes; *path* prefixes the paths of mistakes.

    Raises InvalidInput (UnknownTrainer where that is all) with every mistake at once.
    """
    found = check(raw, prefix=path)
    if isinstance(found, list):
        raise refusal(found)
    return found


def load_file(path: Path) -> Pipeline:
    """The pipeline in the YAML or JSON file *path*. Raises NotFound, and InvalidInput with every mistake and its line."""
    document = read(path)
    found = check(document.value, document)
    if isinstance(found, list):
        raise refusal(found)
    return found


def with_params(pipeline: Pipeline, params: dict[str, Any]) -> Pipeline:
    """*pipeline* with *params* over its ``train.params``; None takes a parameter away. Raises InvalidInput."""
    raw = pipeline.as_json()
    merged = {**raw["train"]["params"], **params}
    raw["train"]["params"] = {name: value for name, value in merged.items() if value is not None}
    found = check(raw)
    if isinstance(found, list):
        raise refusal([Mistake(m.line, m.path.removeprefix("train."), m.text) for m in found], "the parameters have")
    return found


def with_cutoff(pipeline: Pipeline, cutoff: datetime | None) -> Pipeline:
    """*pipeline* whose data end at *cutoff*. Raises InvalidInput where nothing tells which rows are later."""
    if cutoff is None:
        return pipeline
    found = check({**(raw := pipeline.as_json()), "data": {**raw["data"], "until": cutoff.isoformat()}})
    if isinstance(found, list):
        raise InvalidInput(
            f"{pipeline.name} has no data cut-off: " + "; ".join(each.text for each in found),
            field="cutoff",
            remedy="split by time (`data.split: {by: time, column: …}`), or start the run without a cut-off",
        )
    return found


def refusal(mistakes: list[Mistake], subject: str = "the specification has") -> PerdureError:
    """The error that tells all *mistakes*."""
    kind = UnknownTrainer if [m.path for m in mistakes] == ["train.trainer"] else InvalidInput
    count = f"{len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''}"
    return kind(f"{subject} {count}\n  " + "\n  ".join(str(m) for m in mistakes), remedy=REMEDY)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the specification, for editors."""
    schema = _without_titles(Pipeline.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Perdure pipeline", **schema}


def _without_titles(schema: Any) -> Any:
    """Pydantic titles every field with its own name: noise in an editor. A field that is called ``title`` stays."""
    if isinstance(schema, list):
        return [_without_titles(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_titles(part) for key, part in schema.items() if not (key == "title" and isinstance(part, str))}
