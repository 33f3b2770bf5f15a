"""Trainers by name: built-in ones, each a function on the contract of `perdure.jobs.trainer`, and the owner's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.adapters.s3 import ObjectStore
from perdure.errors import UnknownTrainer
from perdure.jobs import usercode
from perdure.messages.common import ArtifactRef

if TYPE_CHECKING:
    from perdure.jobs.trainer import TrainContext


def load(name: str, objects: ObjectStore, code: ArtifactRef | None) -> Callable[[TrainContext], Any]:
    """The trainer called *name*; the owner's is imported from *code*, and its exceptions become UserCodeError.

    Raises UserCodeImport, UnknownTrainer.
    """
    if name == "xgboost":
        from perdure.jobs.trainers import xgboost

        return xgboost.train
    if code is not None:
        usercode.install(objects, code)
    function = usercode.load(name)
    if not callable(function):
        raise UnknownTrainer(f"{name} is no function", field="train.trainer", remedy="name a function train(context)")
    return lambda context: usercode.call(f"the trainer {name}", function, context)
