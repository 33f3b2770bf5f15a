"""The estimates against those published with the method, and against labelers whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from perdure.labeling.dawid_skene import dawid_skene

# Dawid and Skene (1979), table 1: 45 patients; observer 1 three times, observers 2 to 5 once
PATIENTS = """
1111111 3334334 1122122 2223121 2223222 2223322 1222111 3333433 2222223 2322223 4444444 2223343 1111111 2223212 1211111
1112111 1111111 1111111 2222221 2221322 2222222 2222221 2223222 2212222 1111111 1111111 2322222 1111111 1111111 1121121
1111111 3333233 1111111 2222222 2223232 4334343 2212232 2323233 3333432 1111111 1111111 1212111 2322222 1211111 2222222
"""
OBSERVER = [0, 0, 0, 1, 2, 3, 4]


def test_published_estimates() -> None:
    opinions = [(task, OBSERVER[i], int(said) - 1) for task, row in enumerate(PATIENTS.split()) for i, said in enumerate(row)]
    tasks, labelers, labels = np.array(opinions).T
    found = dawid_skene(tasks, labelers, labels, 4, smoothing=1e-9, tolerance=1e-8, most=1_000)
    assert found.converged
    assert found.prior == pytest.approx([0.40, 0.42, 0.11, 0.07], abs=0.006)  # table 2
    # table 2: of patients truly of class 1, observer 1 says so in 89 % and class 2 in 11 %
    assert found.confusion[0, 0] == pytest.approx([0.89, 0.11, 0, 0], abs=0.006)
    assert (found.posterior[[0, 1, 10]].argmax(axis=1) == [0, 3, 3]).all()
    assert found.confusion.sum(axis=2) == pytest.approx(1)


def test_known_errors_are_found_and_beat_the_majority() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 2_000)
    accuracy = [0.95, 0.6, 0.55, 0.5, 0.5]
    tasks, labelers = np.repeat(np.arange(2_000), 5), np.tile(np.arange(5), 2_000)
    right = random.random(10_000) < np.array(accuracy)[labelers]
    labels = np.where(right, truth[tasks], (truth[tasks] + random.integers(1, 3, 10_000)) % 3)
    found = dawid_skene(tasks, labelers, labels, 3)
    assert [float(np.diag(each).mean()) for each in found.confusion] == pytest.approx(accuracy, abs=0.04)
    votes = np.zeros((2_000, 3))
    np.add.at(votes, (tasks, labels), 1)
    best, majority = (found.posterior.argmax(axis=1) == truth).mean(), (votes.argmax(axis=1) == truth).mean()
    assert best > majority + 0.1
    order = random.permutation(10_000)
    assert dawid_skene(tasks[order], labelers[order], labels[order], 3).posterior == pytest.approx(found.posterior, abs=1e-6)


def test_known_labels_stay_and_tell_who_is_good() -> None:
    """Two labelers who always contradict each other: without a known task nobody could say who is right."""
    tasks, labelers = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    labels = (np.repeat(np.arange(40) % 2, 2) + labelers) % 2
    known = np.full(40, -1)
    known[:6] = np.arange(6) % 2
    found = dawid_skene(tasks, labelers, labels, 2, known=known)
    assert (found.posterior.argmax(axis=1) == np.arange(40) % 2).all()
    assert found.posterior[:6] == pytest.approx(np.eye(2)[known[:6]])
    assert np.diag(found.confusion[0]).min() > 0.9 > 0.1 > np.diag(found.confusion[1]).max()
