"""The owner's pandera (polars) model: the types of raw columns, which are personal, and which rows break its checks."""

from __future__ import annotations

from typing import Any

import polars as pl

from perdure.errors import InvalidInput, SchemaBroken, UserCodeError, bounded
from perdure.jobs.context import JobContext
from perdure.jobs.preparation.columns import FAILURES, Failures
from perdure.messages.common import Json

FIELD = "data.schema"
_NOTHING = "add a column that people may see to the data (a text without names, say), or leave evaluate.human out"


class RowSchema:
    """What ``data.schema`` says. Without one every row is right, and no column is known to be personal."""

    def __init__(self, model: Any | None) -> None:
        self._schema: Any = model.to_schema() if model is not None and hasattr(model, "to_schema") else model
        columns = self._schema.columns if self._schema is not None else {}
        self.dtypes = {name: str(column.dtype.type) for name, column in columns.items() if column.dtype is not None}
        self.required = [name for name, column in columns.items() if column.required and not column.regex]
        self.personal = {name for name, column in columns.items() if (column.metadata or {}).get("pii")}
        self.filters = self._schema is not None and self._schema.strict == "filter"
        self._refuse_what_needs_all_rows(columns)

    def failures(self, frame: pl.DataFrame) -> Failures:
        """The checks that rows of *frame* break. Raises SchemaBroken where the frame as a whole is another, UserCodeError."""
        if self._schema is None:
            return pl.DataFrame(schema=FAILURES)
        from pandera.errors import SchemaErrorReason, SchemaErrors

        try:
            self._schema.validate(frame, lazy=True)
        except SchemaErrors as err:
            for error in err.schema_errors:
                if error.reason_code is SchemaErrorReason.CHECK_ERROR:
                    told = f"the check {getattr(error.check, 'name', error.check)} raised {bounded(str(error), 500)}"
                    raise UserCodeError(told, field=FIELD, remedy="mend the check, and apply again: perdure apply") from err
            return self._by_row(err.failure_cases)
        return pl.DataFrame(schema=FAILURES)

    def shown(self, wanted: list[str] | None, columns: list[Json], target: str) -> list[str]:
        """The columns that may be shown to people who judge answers: those *wanted*, or all that may be. Raises InvalidInput.

        *columns* are those of the data set. Neither the target, as who sees it judges by it alone, nor a personal column, nor binary data.
        """
        field = "evaluate.human.columns"
        binary = {column["name"] for column in columns if column["dtype"] == "Binary"}
        known = [column["name"] for column in columns if column["name"] != target]
        allowed = [name for name in known if name not in self.personal | binary]
        for name in wanted or []:
            if name not in known:
                why = "is the target: who sees it judges nothing else" if name == target else "is no column of the data"
            elif name in self.personal:
                why = f"is personal ({FIELD} marks it with `pii`): it is never shown"
            elif name in binary:
                why = "holds binary data, which cannot be shown"
            else:
                continue
            raise InvalidInput(f"{name!r} {why}", field=field, remedy=f"name some of: {', '.join(allowed[:30])}" if allowed else _NOTHING)
        if not allowed:
            raise InvalidInput("no column of the data may be shown to people", field=field, remedy=_NOTHING)
        return wanted or allowed

    def _by_row(self, cases: pl.DataFrame) -> Failures:
        whole = cases.filter(pl.col("index").is_null())
        if whole.height:
            told = [f"{row['column']}: {row['check']}, found {row['failure_case']}" for row in whole.head(10).iter_rows(named=True)]
            raise SchemaBroken(
                "the source does not fit the schema\n  " + "\n  ".join(told), field=FIELD, remedy="change the schema or the source"
            )
        return cases.select(
            pl.col("index").cast(pl.UInt32).alias("row"),
            pl.when(pl.col("schema_context") == "Column").then(pl.col("column")).otherwise(pl.lit("")).alias("column"),
            "check",
            # a check on whole rows gives the row itself as its example, personal columns and all
            pl.when((pl.col("schema_context") == "Column") & ~pl.col("column").is_in(list(self.personal)))
            .then(pl.col("failure_case"))
            .alias("example"),
        ).cast(FAILURES)  # type: ignore[arg-type]

    def _refuse_what_needs_all_rows(self, columns: dict[str, Any]) -> None:
        unique = [name for name, column in columns.items() if column.unique]
        if unique or (self._schema is not None and self._schema.unique):
            raise InvalidInput(
                f"uniqueness ({', '.join(unique or self._schema.unique)}) cannot be checked partition by partition",
                field=FIELD,
                remedy="leave `unique` out; data.deduplicate keeps the first of equal rows",
            )
        if self._schema is not None and (self._schema.parsers or any(column.parsers for column in columns.values())):
            raise InvalidInput(
                "parsers change rows before they are checked, but a predictor is given rows as they are",
                field=FIELD,
                remedy="do what the parsers do in data.transform",
            )


def row_schema(job: JobContext) -> RowSchema:
    """The schema of the job's specification. Raises UserCodeImport."""
    reference = job.spec.data.schema_
    if reference is None:
        return RowSchema(None)
    model = job.user(reference)
    if not hasattr(model, "to_schema") and not hasattr(model, "validate"):
        raise InvalidInput(
            f"{reference} is no pandera model", field=FIELD, remedy="name a class that derives from pandera.polars.DataFrameModel"
        )
    schema: RowSchema = job.call(reference, RowSchema, model)
    return schema
