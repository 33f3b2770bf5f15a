"""True labels, and each labeler's errors, from opinions alone.

Dawid, A. P. and Skene, A. M. (1979), "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Applied Statistics 28.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SMOOTHING = 0.01  # added to every count: a mistake that was never seen is not impossible


@dataclass(frozen=True, kw_only=True)
class DawidSkene:
    """``posterior`` (tasks x classes), ``confusion`` (labelers x true x said; rows sum to 1), ``prior`` (classes)."""

    posterior: Floats
    confusion: Floats
    prior: Floats
    iterations: int
    converged: bool


def dawid_skene(
    tasks: Integers,
    labelers: Integers,
    labels: Integers,
    classes: int,
    *,
    known: Integers | None = None,
    chosen: NDArray[np.bool_] | None = None,
    most: int = 200,
    tolerance: float = 1e-6,
    smoothing: float = SMOOTHING,
) -> DawidSkene:
    """EM over opinions given as three arrays of one length: who (*labelers*) said what (*labels*) about which of the *tasks*.

    All are numbered from 0. *known* is the true class of each task, -1 where it is not known. *chosen* marks tasks that are there because
    their class is known: they tell how good labelers are, but not how frequent classes are.
    Begins with the shares of votes; ends when no posterior moves by more than *tolerance*, or after *most* rounds.
    The result depends on nothing but the counts: the same opinions in another order give the same posteriors to rounding.
    """
    n_tasks = int(tasks.max()) + 1 if known is None else len(known)
    n_labelers = int(labelers.max()) + 1
    sure = np.zeros(0, dtype=np.int64) if known is None else np.flatnonzero(known >= 0)
    truth = np.eye(classes)[known[sure]] if known is not None else np.zeros((0, classes))
    posterior = np.zeros((n_tasks, classes))
    np.add.at(posterior, (tasks, labels), 1.0)
    posterior[sure] = truth
    posterior /= posterior.sum(axis=1, keepdims=True)
    sample = slice(None) if chosen is None or chosen.all() else ~chosen
    iteration, moved = 0, np.inf
    while iteration < most and moved > tolerance:
        iteration += 1
        prior = posterior[sample].mean(axis=0)
        counts = np.zeros((n_labelers, classes, classes))  # labeler, said, true
        np.add.at(counts, (labelers, labels), posterior[tasks])
        counts += smoothing
        confusion = (counts / counts.sum(axis=1, keepdims=True)).transpose(0, 2, 1)  # labeler, true, said
        score = np.tile(np.log(np.maximum(prior, 1e-300)), (n_tasks, 1))
        np.add.at(score, tasks, np.log(confusion.transpose(0, 2, 1))[labelers, labels])
        score -= score.max(axis=1, keepdims=True)
        new = np.exp(score)
        new /= new.sum(axis=1, keepdims=True)
        new[sure] = truth
        moved = float(np.abs(new - posterior).max())
        posterior = new
    return DawidSkene(posterior=posterior, confusion=confusion, prior=prior, iterations=iteration, converged=moved <= tolerance)
