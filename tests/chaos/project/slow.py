"""Counts that tell spam from ham, made slowly."""

import time
from collections.abc import Iterable
from typing import Any

import polars as pl

SIGNS = ["free", "call", "txt", "win", "claim", "www", "prize", "!", "£", "0", "1", "8", "i", "you", "u ", "ok"]


class Slow:
    """Fitted: the mean length of a training message."""

    def fit(self, frames: Iterable[pl.DataFrame]) -> dict[str, Any]:
        """The mean length."""
        time.sleep(0.5)
        lengths = [length for frame in frames for length in frame["text"].str.len_chars()]
        return {"mean_length": sum(lengths) / len(lengths)}

    def apply(self, frame: pl.DataFrame, state: dict[str, Any]) -> pl.DataFrame:
        """Signs, lengths and cases."""
        if frame.height > 100:  # a whole partition, not one row to be scored
            time.sleep(0.3)
        text = pl.col("text")
        counts = [text.str.to_lowercase().str.count_matches(sign, literal=True).alias(f"has {sign}") for sign in SIGNS]
        return frame.select(
            *(count.cast(pl.Float32) for count in counts),
            (text.str.len_chars() / state["mean_length"]).cast(pl.Float32).alias("length"),
            text.str.count_matches(r"[A-Z]").cast(pl.Float32).alias("capitals"),
            text.str.count_matches(r"\d").cast(pl.Float32).alias("digits"),
        )
