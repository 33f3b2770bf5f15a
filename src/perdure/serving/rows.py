"""What predictions look like in the inference log: one column for each attribute, input and score."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from uuid import UUID

import polars as pl

from perdure.predictions import REQUEST
from perdure.serving.scored import LogPolicy, Scored

INPUT, CLASS = "input.", "p."
HASHED = "hmac:"
"""How a hashed value begins."""
_STAMP = 12  # hexadecimal digits of a request that hold its time in milliseconds
Hash = Callable[[str], str]


def hasher(secret: str | None) -> Hash | None:
    """A keyed hash of texts (HMAC-SHA256, 128 bits in hex): equal values stay equal, and nobody without the secret can try them out."""
    if secret is None:
        return None
    key = secret.encode()
    return lambda value: HASHED + hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:32]


def frame(parts: Sequence[tuple[int, Scored]], instance: UUID, hashed: Hash | None) -> pl.DataFrame:
    """The rows of *parts* (first sequence number, predictions), which are all of one model, version, role and policy."""
    first = parts[0][1]
    ids = [id for _, each in parts for id in each.ids]
    time = times(ids)
    said = {
        "id": pl.Series(ids),
        "time": time,
        "date": time.cast(pl.Date),
        "version": pl.Series([first.version] * len(ids), dtype=pl.Int32),
        "role": pl.Series([first.role] * len(ids)),
        "unit": pl.Series([unit for _, each in parts for unit in _units(each, hashed)], dtype=pl.String),
        "trace": pl.Series([trace for _, each in parts for trace in each.traces]),
        "latency_ms": pl.Series([value for _, each in parts for value in each.latencies], dtype=pl.Float64),
        "instance": pl.Series([str(instance)] * len(ids)),
        "sequence": pl.Series([number for start, each in parts for number in range(start, start + len(each.ids))], dtype=pl.Int64),
    }
    inputs = kept(_together([each.rows for _, each in parts]), first.policy, hashed)
    scores = _together([each.scores for _, each in parts])
    scored = {name if name == "prediction" else f"{CLASS}{name.removeprefix('p_')}": scores.get_column(name) for name in scores.columns}
    return pl.DataFrame({**said, **{f"{INPUT}{name}": inputs.get_column(name) for name in inputs.columns}, **scored})


def times(ids: Sequence[str]) -> pl.Series:
    """The times that predictions' ids tell."""
    milliseconds = [int(id[-REQUEST:][:_STAMP], 16) for id in ids]
    return pl.Series(milliseconds, dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")).cast(pl.Datetime("us", "UTC"))


def kept(rows: pl.DataFrame, policy: LogPolicy, hashed: Hash | None) -> pl.DataFrame:
    """*rows* without what is personal: dropped, or hashed where the policy says so and there is a secret to do it with."""
    personal = [name for name in rows.columns if name in policy.personal]
    if not personal:
        return rows
    if policy.treat == "drop" or hashed is None:
        return rows.drop(personal)
    texts = {name: [None if value is None else hashed(str(value)) for value in rows.get_column(name)] for name in personal}
    return rows.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in texts.items())


def sampled(scored: Scored) -> Scored | None:
    """What of *scored* the policy's sample takes: by request, so that all versions that score it are taken, or none."""
    share = scored.policy.sample
    if share >= 1:
        return scored
    taken = [index for index, id in enumerate(scored.ids) if chance(id, 0) < share]
    if not taken:
        return None
    return Scored(
        model=scored.model,
        version=scored.version,
        role=scored.role,
        rows=scored.rows[taken],
        scores=scored.scores[taken],
        ids=[scored.ids[index] for index in taken],
        units=[scored.units[index] for index in taken],
        traces=[scored.traces[index] for index in taken],
        latencies=[scored.latencies[index] for index in taken],
        policy=scored.policy,
        unit_column=scored.unit_column,
    )


def _units(scored: Scored, hashed: Hash | None) -> Sequence[str | None]:
    """Whom the predictions are for. What a personal column tells is hashed, whatever the policy, as units must stay apart; or left out."""
    if scored.unit_column not in scored.policy.personal:
        return scored.units
    return [None if unit is None or hashed is None else hashed(unit) for unit in scored.units]


def chance(id: str, which: int) -> float:
    """A number from 0 to 1 that is another one for each request and *which* (0, 1), and always the same."""
    end = len(id) - 7 * which
    return float(int(id[end - 7 : end], 16) / 0x10000000)


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    try:
        made = frames[0].clone()
        for each in frames[1:]:
            made.extend(each)  # many small ones: a fifth of the time of `pl.concat`
        return made
    except pl.exceptions.PolarsError:  # a column that was empty in some requests
        return pl.concat(frames, how="diagonal_relaxed")
