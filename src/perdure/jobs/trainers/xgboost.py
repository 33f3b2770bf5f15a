"""XGBoost on the trainer contract: a killed and resumed training gives the bytes of an undisturbed one.

What that takes, with the same shards and workers: ranks bound to task ids (the gang's tracker sorts by them), checkpoints at fixed rounds,
and new samplers at each of them, with a seed that depends on the round alone (`_forget_samplers`), as their state is not in the model.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from perdure.errors import DataRejected, InvalidInput, ResourcesUnavailable
from perdure.jobs import scratch
from perdure.jobs.trainer import LABEL, TrainContext

MODEL = "model.ubj"
_OBJECTIVES = {
    "two classes": ("binary:logistic", "multi:softprob"),
    "several classes": ("multi:softprob",),
    "regression": (
        *("reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:logistic", "reg:quantileerror"),
        *("count:poisson", "reg:gamma", "reg:tweedie"),
    ),
}
_FIXED = {
    "booster": ("gbtree", "other boosters cannot be resumed exactly"),
    "tree_method": ("hist", "other tree methods cannot be resumed exactly"),
    "process_type": ("default", "an update of an existing model is no training"),
}
_DECIDED = {
    "device": "the device follows from train.scaling.gpus_per_worker",
    "updater": "updaters follow from the tree method",
    "refresh_leaf": "it belongs to process_type: update",
    "num_class": "the number of classes follows from the data",
    "disable_default_eval_metric": "name an eval_metric instead",
}


def import_xgboost() -> Any:
    """The module, imported without scikit-learn and pandas, which it would load first: four fifths of the time."""
    if "xgboost" not in sys.modules and "sklearn" not in sys.modules:
        sys.modules["sklearn"] = None  # type: ignore[assignment]
        try:
            import xgboost
        finally:
            del sys.modules["sklearn"]
    import xgboost

    return xgboost


def train(context: TrainContext) -> None:
    """Boost ``params.rounds`` trees on the context's shards. Raises InvalidInput, DataRejected, ResourcesUnavailable."""
    xgb = import_xgboost()
    params = parameters(context)
    _try_out(xgb, params, context)
    with _collective(xgb, context):
        context.phase("loading")
        data = [(_matrix(xgb, context, "train", params), "train")]
        if "validation" in context.splits:
            data.append((_matrix(xgb, context, "validation", params, data[0][0]), "validation"))
        context.phase("training")
        try:
            _boost(xgb, params, context, data)
        except xgb.core.XGBoostError as err:
            if context.world_size > 1:
                raise  # perhaps because another worker was lost: the gang finds out
            raise refused(err) from err


def refused(err: BaseException) -> DataRejected:
    """What an error of XGBoost means when no worker was lost."""
    return DataRejected(
        f"XGBoost refused the data: {_words(err)}", field="train.params", remedy="see that labels and features fit the objective"
    )


def _words(err: BaseException) -> str:
    """An error of XGBoost without time, source line and stack trace."""
    text = re.sub(r"^\[\d+:\d+:\d+\] (\S+\.\w+:\d+: )?", "", str(err).split("Stack trace")[0])
    return " ".join(text.split())


def _boost(xgb: Any, params: dict[str, Any], context: TrainContext, data: list[tuple[Any, str]]) -> None:
    rounds, restored = int(context.params["rounds"]), context.restore()
    done = restored.round if restored else 0
    booster = xgb.Booster({**params, "seed": _seed_at(context, done)}, [matrix for matrix, _ in data])
    if restored:
        booster.load_model(bytearray((restored.path / MODEL).read_bytes()))
        booster.set_param({**params, "seed": _seed_at(context, done)})
    while done < rounds:
        booster.update(data[0][0], iteration=done)
        done += 1
        metrics = _metrics(booster.eval_set(data, done))
        if not context.checkpoint_due(done):
            context.report(done, metrics)
            continue
        if context.rank == 0:
            with scratch.folder() as folder:
                (folder / MODEL).write_bytes(booster.save_raw("ubj"))
                context.report(done, metrics, folder)
        else:
            context.report(done, metrics)
        _forget_samplers(booster, _seed_at(context, done))


def _seed_at(context: TrainContext, round: int) -> int:
    return (context.seed + 100_003 * round) % (1 << 31)


def _forget_samplers(booster: Any, seed: int) -> None:
    """Leave the booster as if it were loaded from its bytes, but with its prediction cache: a change of the tree method drops the samplers.

    This leans on XGBoost's inner workings; the test "killed = undisturbed" guards it at every upgrade.
    """
    booster.set_param({"tree_method": "approx"})
    booster.save_config()  # parameters take effect when the booster is next configured
    booster.set_param({"tree_method": "hist", "seed": seed})


def _metrics(line: str) -> dict[str, float]:
    """``[12]\\ttrain-logloss:0.41`` as numbers."""
    return {name: float(value) for name, value in (item.rsplit(":", 1) for item in line.split("\t")[1:])}


def _collective(xgb: Any, context: TrainContext) -> AbstractContextManager[Any]:
    if not context.rendezvous:
        return nullcontext()
    collective: AbstractContextManager[Any] = xgb.collective.CommunicatorContext(**context.rendezvous, dmlc_task_id=f"{context.rank:08d}")
    return collective


# --- parameters ------------------------------------------------------------------------------------------------------------


def parameters(context: TrainContext) -> dict[str, Any]:
    """What XGBoost is told. Raises InvalidInput naming ``train.params.…`` for what Perdure decides or cannot resume."""
    given = {name: value for name, value in context.params.items() if name not in ("rounds", "seed", "random_state")}
    for name, reason in _DECIDED.items():
        if name in given:
            raise InvalidInput(f"{reason}", field=f"train.params.{name}", remedy="leave it out")
    for name, (only, reason) in _FIXED.items():
        if given.get(name, only) != only:
            raise InvalidInput(f"{given[name]!r}: {reason}", field=f"train.params.{name}", remedy=f"use {only}, or leave it out")
    task = "regression" if not context.classes else "two classes" if len(context.classes) == 2 else "several classes"
    objective = given.get("objective", _OBJECTIVES[task][0])
    if objective not in _OBJECTIVES[task]:
        raise InvalidInput(
            f"{objective!r} is no objective for {task}",
            field="train.params.objective",
            remedy=f"use one of: {', '.join(_OBJECTIVES[task])}",
        )
    made = {"nthread": context.threads, **given, "objective": objective, "tree_method": "hist", "device": context.device}
    if objective.startswith("multi:"):
        made["num_class"] = len(context.classes)
    return made


def _try_out(xgb: Any, params: dict[str, Any], context: TrainContext) -> None:
    """Train one round on a few made-up rows, so that a wrong value is found before the data is loaded."""
    if params["device"] == "cuda" and not xgb.build_info()["USE_CUDA"]:
        raise ResourcesUnavailable(
            "the XGBoost that is installed on the worker has no CUDA",
            field="train.scaling.gpus_per_worker",
            remedy="install perdure[train] in place of perdure[train-cpu] on GPU nodes",
        )
    if (err := _objection(xgb, params, context)) is None:
        return
    needed: dict[str, Any] = {name: params[name] for name in ("objective", "num_class", "tree_method", "device") if name in params}
    for name, value in params.items():
        if name not in needed and (alone := _objection(xgb, {**needed, name: value}, context)) is not None:
            raise InvalidInput(alone, field=f"train.params.{name}", remedy="see XGBoost's documentation of the parameter") from None
    raise InvalidInput(err, field="train.params", remedy="see XGBoost's documentation of these parameters together")


def _objection(xgb: Any, params: dict[str, Any], context: TrainContext) -> str | None:
    """Why XGBoost refuses *params*, in its own words, or None."""
    labels = np.arange(len(context.classes), dtype=np.float32) if context.classes else np.array([0.5, 0.75], dtype=np.float32)
    rows = np.zeros((len(labels), len(context.features)), dtype=np.float32)
    try:
        data = xgb.DMatrix(rows, labels, feature_names=context.features)
        booster = xgb.Booster({**params, "nthread": 1}, [data])
        booster.update(data, 0)
        booster.eval_set([(data, "train")], 0)
    except (xgb.core.XGBoostError, ValueError, TypeError) as err:
        return _words(err)
    return None


# --- data ------------------------------------------------------------------------------------------------------------------


def _matrix(xgb: Any, context: TrainContext, split: str, params: Mapping[str, Any], reference: Any = None) -> Any:
    """The rank's shards, quantized as they stream by: in memory are one shard, the bins, and as many shards as there is room for."""

    class Shards(xgb.DataIter):  # type: ignore[misc]
        """XGBoost passes over the shards several times."""

        def __init__(self) -> None:
            super().__init__(release_data=True)
            self.arrays = _Arrays(context, split)
            self.batches: Iterator[tuple[Any, Any]] = iter(())

        def reset(self) -> None:
            self.batches = iter(self.arrays)

        def next(self, input_data: Any) -> bool:
            if (batch := next(self.batches, None)) is None:
                return False
            input_data(data=batch[0], label=batch[1], feature_names=context.features)
            return True

    return xgb.QuantileDMatrix(Shards(), nthread=params["nthread"], max_bin=params.get("max_bin", 256), ref=reference)


class _Arrays:
    """Feature matrix and labels of each shard; those for which there is room are kept between passes."""

    def __init__(self, context: TrainContext, split: str) -> None:
        self._context, self._shards = context, context.shards(split)
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._room = _free_memory() // (4 * context.world_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for index in range(len(self._shards)):
            yield self._kept.get(index) or self._read(index)
        if not self._shards:  # a rank without rows takes part with none
            yield np.empty((0, len(self._context.features)), dtype=np.float32), np.empty(0, dtype=np.float32)

    def _read(self, index: int) -> tuple[Any, Any]:
        frame = self._shards[index]
        batch = frame.select(self._context.features).to_numpy(order="c"), frame.get_column(LABEL).to_numpy()
        if batch[0].nbytes <= self._room:
            self._room -= batch[0].nbytes
            self._kept[index] = batch
        return batch


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # macOS does not tell
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
