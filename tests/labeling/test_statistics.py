"""The figures of a snapshot."""

from __future__ import annotations

from typing import Any

from perdure.labeling.statistics import CLASSES, Tally


def line(label: Any, **opinions: Any) -> dict[str, Any]:
    return {"label": label, "opinions": [{"labeler": who, "value": value} for who, value in opinions.items()]}


def test_agreement_is_the_share_of_agreeing_pairs() -> None:
    tally = Tally()
    for each in (line("ham", ada="ham"), line("ham", ada="ham", bob="ham", eve="spam"), line("spam", ada="spam", bob="spam")):
        tally.add(each)
    assert tally.figures() == {
        "tasks": 3,
        "opinions": 6,
        "labels": {"ham": 2, "spam": 1},
        "pairs": 4,
        "agreement": 0.5,
        "labelers": {"ada": 3, "bob": 2, "eve": 1},
    }


def test_nobody_was_asked_twice_or_for_numbers() -> None:
    tally = Tally()
    tally.add(line(4.5, ada=4.5))
    figures = tally.figures()
    assert (figures["agreement"], figures["pairs"], figures["labels"]) == (None, 0, {})


def test_very_many_labels_are_counted_up_to_a_limit() -> None:
    tally = Tally()
    for n in range(2 * CLASSES):
        tally.add(line(f"l{n}"))
    assert len(tally.figures()["labels"]) == CLASSES
