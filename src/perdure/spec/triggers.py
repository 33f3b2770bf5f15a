"""The part `triggers` of the specification: reasons other than drift to train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from perdure.messages.retraining import TriggerKind
from perdure.spec.cron import wrong_cron, wrong_zone
from perdure.spec.fields import Duration, Name, duration
from perdure.spec.part import Broken, Part

KINDS = ("schedule", "data", "labels", "dataset")
_OF_DATES = ("timezone", "overlap", "jitter", "catchup")


class Trigger(Part):
    """One reason to train: exactly one of a date, new data at the source, so many new labels, or another pipeline's new dataset."""

    schedule: str | None = Field(None, description="dates as cron writes them", examples=["0 3 * * 1"])
    data: Literal["new"] | None = Field(None, description="the files of data.source have changed")
    labels: int | None = Field(None, ge=1, description="so many labels are new since the last training", examples=[200])
    dataset: Name | None = Field(None, description="the pipeline whose new dataset version is a reason to train", examples=["messages"])
    timezone: str = Field("UTC", description="the time zone of schedule", examples=["Europe/Berlin"])
    overlap: Literal["skip", "wait"] = Field("skip", description="a date at which the model is being trained is skipped, or waits")
    jitter: Duration = duration("0s", "a date is moved by chance by up to this")
    catchup: Duration = duration("1h", "dates that were missed for less than this are made up for; earlier ones are not")
    every: Duration = duration("1h", "how often the source is looked at")

    @property
    def kind(self) -> TriggerKind:
        """What triggers."""
        return next(TriggerKind(name) for name in KINDS if getattr(self, name) is not None)

    def rules(self) -> Broken:
        """One reason, with the fields that belong to it."""
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "there is none"
            yield (), f"give exactly one of {', '.join(KINDS)}; {found}", KINDS
            return
        if self.schedule is not None and (problem := wrong_cron(self.schedule)) is not None:
            yield ("schedule",), problem, ("schedule",)
        if (problem := wrong_zone(self.timezone)) is not None:
            yield ("timezone",), problem, ("timezone",)
        foreign = dict.fromkeys(_OF_DATES, "schedule") | {"every": "data"}
        for name, owner in foreign.items():
            if owner != given[0] and getattr(self, name) != type(self).model_fields[name].default:
                yield (name,), f"belongs to {owner}; leave it out", (name, given[0])
        if self.data is not None and self.every.total_seconds() < 10:
            yield ("every",), "must be at least 10s", ("every",)
