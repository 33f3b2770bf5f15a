"""Turns a message into numbers: words and character sequences that tell spam from ham, and the message's shape."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

WORDS, GRAMS = 300, 200  # how many of each are features
SEEN = 4  # messages of the training split that must have one
SHAPE = {
    "characters": pl.col("text").str.len_chars(),
    "words": pl.col("text").str.count_matches(r"\S+"),
    "digits": pl.col("text").str.count_matches(r"\d"),
    "capitals": pl.col("text").str.count_matches(r"[A-Z]"),
    "shouted words": pl.col("text").str.count_matches(r"\b[A-Z]{3,}\b"),
    "exclamation marks": pl.col("text").str.count_matches("!"),
    "currency signs": pl.col("text").str.count_matches("[£$€]"),
    "phone numbers": pl.col("text").str.count_matches(r"\b\d{5,}\b"),
    "addresses": pl.col("text").str.count_matches(r"(?i)www\.|https?:|\.com\b|\.co\.uk\b"),
    "length_bucket": pl.col("text").str.len_chars().clip(0, 159) // 40,  # four lengths: slices of the evaluation
}


class Features:
    """Fitted once on the training split: which words and sequences separate the classes best."""

    def fit(self, frames: Iterable[pl.DataFrame]) -> dict[str, Any]:
        """The vocabulary, chosen by the chi-squared statistic of presence against class."""
        messages: Counter[str] = Counter()
        seen = {"word": {"ham": Counter(), "spam": Counter()}, "gram": {"ham": Counter(), "spam": Counter()}}
        for frame in frames:
            for label, text in frame.select("label", "text").iter_rows():
                messages[label] += 1
                plain = _plain(text)
                seen["word"][label].update(_words(plain))
                seen["gram"][label].update(_grams(plain))
        return {
            "words": _best(seen["word"], messages, WORDS),
            "grams": _best(seen["gram"], messages, GRAMS),
        }

    def apply(self, frame: pl.DataFrame, state: dict[str, Any]) -> pl.DataFrame:
        """One row of numbers for each message."""
        words = {word: column for column, word in enumerate(state["words"])}
        grams = {gram: column + len(words) for column, gram in enumerate(state["grams"])}
        present = np.zeros((frame.height, len(words) + len(grams)), dtype=np.float32, order="F")
        for row, text in enumerate(frame.get_column("text")):
            plain = _plain(text)
            present[row, [words[word] for word in _words(plain) & words.keys()]] = 1
            present[row, [grams[gram] for gram in _grams(plain) & grams.keys()]] = 1
        names = [f"word {word}" for word in words] + [f"sequence {gram}" for gram in grams]
        columns = [pl.Series(name, present[:, column]) for column, name in enumerate(names)]
        return frame.select(expression.cast(pl.Float32).alias(name) for name, expression in SHAPE.items()).hstack(columns)


def _plain(text: str) -> str:
    """Lower case, every digit a 0, anything unusual an underscore."""
    return re.sub(r"[^a-z0£$!?.:/' ]", "_", re.sub(r"\d", "0", text.lower()))


def _words(plain: str) -> set[str]:
    return set(re.findall(r"[a-z0£$']+", plain))


def _grams(plain: str) -> set[str]:
    return set(_sequences(plain, 3)) | set(_sequences(plain, 4))


def _sequences(plain: str, length: int) -> Iterator[str]:
    return (plain[start : start + length] for start in range(len(plain) - length + 1))


def _best(seen: dict[str, Counter[str]], messages: Counter[str], number: int) -> list[str]:
    """The *number* terms whose presence depends most on the class, in a fixed order."""

    def chi_squared(term: str) -> float:
        spam, ham = seen["spam"][term], seen["ham"][term]
        no_spam, no_ham = messages["spam"] - spam, messages["ham"] - ham
        apart = (spam * no_ham - ham * no_spam) ** 2 * (messages["spam"] + messages["ham"])
        return apart / max(1, messages["spam"] * messages["ham"] * (spam + ham) * (no_spam + no_ham))

    terms = [term for term in seen["spam"].keys() | seen["ham"].keys() if seen["spam"][term] + seen["ham"][term] >= SEEN]
    return sorted(terms, key=lambda term: (-chi_squared(term), term))[:number]
