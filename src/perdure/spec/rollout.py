"""The part `promote` of the specification: who decides about a release, and what the version goes through before it serves."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from perdure.messages.rollout import Stage, TrafficKind
from perdure.spec.experiment import Experiment
from perdure.spec.fields import Duration, duration
from perdure.spec.part import Broken, Part

Percent = Annotated[float, Field(gt=0, le=100)]
KINDS = ("shadow", "canary", "experiment")
BAKE = timedelta(minutes=10)


class Approval(Part):
    """Whether people decide after the gates: how many, who, and until when."""

    required: int = Field(0, ge=0, le=20, description="votes that are needed; 0: nobody is asked")
    approvers: list[str] = Field(default_factory=list, description="who may vote; empty: anybody", examples=[["ada@example.org"]])
    deadline: Duration = duration("7d", "after this the model is not released")
    remind: Duration | None = Field(None, description="who has not voted is reminded this often; default: never", examples=["1d"])
    cli: bool = Field(True, description="whether a vote by bare Temporal CLI counts (never for a quorum above one)")

    def rules(self) -> Broken:
        """As many voters as votes; reminders that leave people in peace."""
        if self.approvers and len(set(self.approvers)) < self.required:
            text = f"needs {self.required} votes of {len(set(self.approvers))} approvers; nobody votes twice"
            yield ("required",), text, ("required", "approvers")
        if self.remind is not None and self.remind.total_seconds() < 60:
            yield ("remind",), "must be 60s or more", ("remind",)


class Step(Part):
    """One stage of a rollout: exactly one of ``shadow``, ``canary`` and ``experiment``."""

    shadow: Duration | None = Field(
        None, description="for so long the version scores requests beside the released one, which answers", examples=["10m"]
    )
    share: Percent = Field(100, description="percent of the requests that a shadow scores")
    canary: Percent | None = Field(None, description="percent of the requests that the version answers", examples=[10])
    bake: Duration | None = Field(None, description="how long a canary answers; default: 10m", examples=["10m"])
    experiment: Experiment | None = Field(None, description="the version answers its share of units until outcomes say which is better")

    def rules(self) -> Broken:
        """One kind of stage, with its own fields only."""
        kinds = [name for name in KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            yield (), f"must name exactly one of {', '.join(KINDS)}", tuple(KINDS)
        if self.bake is not None and "canary" not in kinds:
            yield ("bake",), "is a canary's; a shadow lasts as long as it says itself", ("bake", "canary")
        if "share" in self.model_fields_set and self.share != 100 and "shadow" not in kinds:
            yield ("share",), "is a shadow's; a canary's percentage is its own value", ("share", "shadow")

    @property
    def stage(self) -> Stage:
        """The stage as the workflow goes through it."""
        if self.shadow is not None:
            return Stage(kind=TrafficKind.SHADOW, share=self.share, lasts=self.shadow)
        if self.experiment is not None:
            settings = self.experiment.model_dump(mode="json")
            return Stage(kind=TrafficKind.ARM, share=self.experiment.share, lasts=self.experiment.max_duration, settings=settings)
        assert self.canary is not None, "one of them is there"
        return Stage(kind=TrafficKind.CANARY, share=self.canary, lasts=self.bake if self.bake is not None else BAKE)


class Probes(Part):
    """What a version must keep to while it takes part; the first limit that it breaks ends its rollout.

    Figures are those of the serving processes since the stage began, by whole minutes.
    """

    max_error_rate: float | None = Field(0.01, ge=0, le=1, description="share of requests that the version itself fails; null: any")
    max_latency_ms: float | None = Field(None, gt=0, description="milliseconds within which 95 % of its requests are answered")
    max_latency_ratio: float | None = Field(None, gt=0, description="the same time over that of the released version")
    max_disagreement: float | None = Field(None, ge=0, le=1, description="share of a shadow's rows that it predicts otherwise")
    min_requests: int = Field(20, ge=1, description="requests before which a limit ends nothing, unless no more are waited for")
    too_few: Literal["wait", "refuse", "go_on"] = Field("wait", description="what follows where fewer came until the end of a stage")
    wait: Duration = duration("1d", "with `too_few: wait`, how long after the end of a stage more are waited for; then it fails")


class Promote(Part):
    """How a model that passed its gates is released."""

    approval: Approval = Field(Approval(), description="whether people decide, and who")
    rollout: list[Step] = Field(
        default_factory=list,
        max_length=20,
        description="stages before the release; default: none, it serves at once",
        examples=[[{"shadow": "10m"}, {"canary": 10, "bake": "10m"}]],
    )
    probes: Probes = Field(Probes(), description="what the version must keep to meanwhile")
    standby: Duration = duration("5m", "how long the serving processes may take to load the version")

    @property
    def stages(self) -> list[Stage]:
        """All stages of the rollout, the standby before the first among them; none where there is no rollout."""
        standby = Stage(kind=TrafficKind.STANDBY, share=0, lasts=self.standby)
        return [standby, *(step.stage for step in self.rollout)] if self.rollout else []
