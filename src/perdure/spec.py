"""The pipeline specification: YAML for people, one validated value for everybody else.

`load` reports every mistake at once, each with its path and a remedy. The JSON Schema for editors is `json_schema()`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema, model_validator

from perdure.errors import InvalidInput
from perdure.keys import digest

CODE_REFERENCE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(value: object) -> object:
    """``90s``, ``10m``, ``24h``, ``14d``, or seconds as a number."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)):
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(lambda d: f"{d.total_seconds():g}s", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?[smhd]$", "examples": ["10m", "24h", "14d"]}),
]
CodeReference = Annotated[str, Field(pattern=CODE_REFERENCE, description="package.module:attribute, from the owner's project")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Part(BaseModel):
    """A part of the specification: frozen, and an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Part):
    """Where the raw rows come from: a file, a glob, or a prefix, on disk or S3."""

    uri: str = Field(
        min_length=1,
        description="path (relative to the specification), file:// or s3:// URI; a glob or a trailing slash names several files",
    )
    format: Literal["csv", "tsv", "parquet"]
    columns: list[ColumnName] | None = Field(None, description="names, where a csv or tsv file has no header row")
    quoting: bool | None = Field(None, description="whether double quotes enclose fields; default: yes for csv, no for tsv")
    null_values: list[str] = Field(default_factory=list)


class Target(Part):
    """The column to be predicted; ``positive`` names the positive class of two."""

    column: ColumnName
    positive: str | None = None
    task: Literal["classification", "regression"] = "classification"


class Split(Part):
    """Membership by row hash (equal rows fall together; it survives new rows), by time (the latest rows are the test set) or by group."""

    by: Literal["hash", "time", "group"] = "hash"
    test: float = Field(0.2, gt=0, lt=1)
    seed: int = 0
    column: ColumnName | None = Field(None, description="the time or group column")

    @model_validator(mode="after")
    def _column(self) -> Split:
        if (self.by != "hash") != (self.column is not None):
            raise ValueError("a split by time or group needs `column`, a split by hash takes none")
        return self


class Limits(Part):
    """How much bad data a preparation may set aside before it fails."""

    quarantined: float = Field(0.05, ge=0, le=1, description="largest share of rows that may fail validation")
    min_rows: int = Field(10, ge=1, description="fewest valid rows")


class Data(Part):
    """The raw rows, what they must look like, and how they become training rows."""

    source: Source
    schema_: CodeReference | None = Field(None, alias="schema", description="a pandera (polars) model of the raw rows")
    target: Target
    split: Split = Split()
    transform: CodeReference | None = Field(
        None, description="a function apply(frame), or a class with fit(frames) and apply(frame, state)"
    )
    deduplicate: bool = False
    partitions: int = Field(4, ge=1, le=10_000)
    window: int = Field(4, ge=1, le=100, description="partitions in flight at once")
    limits: Limits = Limits()
    memory_mb: int = Field(1024, ge=64, description="what one preparation job may hold in memory")

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _target(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("target"), str):
            return {**value, "target": {"column": value["target"]}}
        return value


class Scaling(Part):
    """The worker group. The number of workers is part of a run's identity: another number gives another model."""

    workers: int = Field(1, ge=1, le=1024)
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    accelerator: str | None = None
    allow_cpu: bool = Field(False, description="train on CPU where the cluster has no GPU; never silently")


class CheckpointPolicy(Part):
    """How often a training state is committed: the most rounds that a kill can cost."""

    every_rounds: int = Field(20, ge=1)
    keep: int = Field(2, ge=1)


class Train(Part):
    """The trainer and its parameters; ``params.rounds`` is the number of boosting rounds or epochs."""

    trainer: str = Field("xgboost", description="`xgboost`, or package.module:function of the trainer contract")
    predict: CodeReference | None = Field(
        None, description="for a trainer of one's own: predict(model_dir, features) -> scores, one column per class"
    )
    params: dict[str, Any] = Field(default_factory=dict)
    engine: Literal["ray", "local"] = "ray"
    scaling: Scaling = Scaling()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    stall: Duration = Field(
        timedelta(minutes=15), description="a job whose progress stands still for this long is stopped and started again"
    )

    @model_validator(mode="after")
    def _check(self) -> Train:
        rounds = self.params.get("rounds", 100)
        if not isinstance(rounds, int) or isinstance(rounds, bool) or not 1 <= rounds <= 1_000_000:
            raise ValueError("`params.rounds` must be a whole number from 1 to 1000000")
        if ":" in self.trainer and not self.predict:
            raise ValueError("a trainer of one's own needs `predict`: package.module:function that scores features with its files")
        if self.engine == "local" and self.scaling.workers != 1:
            raise ValueError("the local engine has one worker; use `engine: ray` for a group")
        return self


class Slice(Part):
    """Rows grouped by the values of a column of the raw rows or of the transform's output."""

    column: ColumnName
    min_rows: int = Field(20, ge=1)


class Gate(Part):
    """A condition on a metric, on all rows or on every slice of a column.

    Either a bound on its value, or a bound on its change against the champion re-scored on the same rows.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    min_change: float | None = None
    max_change: float | None = None
    versus: Literal["champion"] | None = None
    slice: ColumnName | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Gate:
        conditions = [c for c in (self.min, self.max, self.min_change, self.max_change) if c is not None]
        if len(conditions) != 1:
            raise ValueError("give exactly one of `min`, `max`, `min_change`, `max_change`")
        if (self.min_change is not None or self.max_change is not None) != (self.versus is not None):
            raise ValueError("`min_change` and `max_change` need `versus: champion`, the others take none")
        return self


METRICS = {
    "classification": ("roc_auc", "pr_auc", "log_loss", "accuracy", "f1", "precision", "recall", "brier"),
    "regression": ("mae", "rmse", "r2"),
}


class Evaluate(Part):
    """Metrics on the test split, slices, and the gates that a model must pass to be released."""

    metrics: list[str] = Field(default_factory=list, description="default: all of the task's metrics")
    slices: list[Slice] = Field(default_factory=list)
    gates: list[Gate] = Field(default_factory=list)


class Approval(Part):
    """Whether people decide after the gates: how many, who, and until when."""

    required: int = Field(0, ge=0, le=20)
    approvers: list[str] = Field(default_factory=list, description="who may vote; empty: anybody")
    deadline: Duration = timedelta(days=7)
    cli: bool = Field(True, description="whether a vote by bare Temporal CLI counts (never for a quorum above one)")


class Promote(Part):
    """How a model that passed its gates is released."""

    approval: Approval = Approval()


class Pipeline(Part):
    """One whole pipeline."""

    name: Name
    owner: str | None = None
    model: Name | None = Field(None, description="the model's name; default: the pipeline's")
    data: Data
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    promote: Promote = Promote()
    patience: Duration = Field(timedelta(minutes=10), description="how long a step waits for an unreachable part")

    @property
    def model_name(self) -> str:
        """The name under which models of this pipeline are registered."""
        return self.model or self.name

    @property
    def code_references(self) -> list[str]:
        """Every ``package.module:attribute`` of the owner's project that jobs will import."""
        named = [self.data.schema_, self.data.transform, self.train.predict, self.train.trainer if ":" in self.train.trainer else None]
        return [reference for reference in named if reference]

    def as_json(self) -> dict[str, Any]:
        """The canonical JSON form, which `load` reads back to an equal value."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def sha256(self) -> str:
        """The digest of the canonical form."""
        return digest(self.as_json())

    @model_validator(mode="after")
    def _metrics_fit_task(self) -> Pipeline:
        known = METRICS[self.data.target.task]
        for metric in [*self.evaluate.metrics, *(gate.metric for gate in self.evaluate.gates)]:
            if metric not in known:
                raise ValueError(f"metric {metric!r} is unknown for {self.data.target.task}; known: {', '.join(known)}")
        return self


def load(raw: Any, path: str = "") -> Pipeline:
    """The pipeline that *raw* (parsed YAML or JSON) describes; *path* prefixes the paths of mistakes.

    Raises InvalidInput with every mistake at once.
    """
    try:
        return Pipeline.model_validate(raw)
    except ValidationError as err:
        raise InvalidInput(
            describe(err, path), remedy="mend the fields above; `perdure schema` prints the JSON Schema for your editor"
        ) from err


def json_schema() -> dict[str, Any]:
    """JSON Schema of the specification, for editors."""
    return Pipeline.model_json_schema(by_alias=True)


def describe(err: ValidationError, path: str = "") -> str:
    """One line a mistake: its path and what is wrong."""
    lines = []
    for mistake in err.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in ([path] if path else []) + list(mistake["loc"])) or "specification"
        lines.append(f"{where}: {mistake['msg'].removeprefix('Value error, ')}")
    return f"the specification has {len(lines)} mistake{'s' if len(lines) != 1 else ''}\n  " + "\n  ".join(lines)
