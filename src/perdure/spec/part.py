"""What every part of the specification is: frozen, without unknown fields, and with rules over its fields."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from perdure.spec.mistakes import Where

Broken = Iterator[tuple[Where, str, tuple[str, ...]]]


class Part(BaseModel):
    """A part of the specification: frozen; an unknown field is an error; `rules` are held once its fields are right."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    def rules(self) -> Broken:
        """What the fields contradict in each other: where, in which words, and the fields that this was judged by."""
        yield from ()

    @model_validator(mode="after")
    def _obey(self) -> Part:
        broken = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{text}", {"text": text, "by": by, "depth": len(where)}), loc=where, input=None
            )
            for where, text, by in self.rules()
        ]
        if broken:
            raise ValidationError.from_exception_data(type(self).__name__, broken)
        return self
