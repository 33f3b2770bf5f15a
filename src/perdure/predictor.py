"""One artifact that scores raw rows: the owner's transform, its fitted state, the model and the raw signature, in one zip.

Training builds it; evaluation, the command line, serving and a stock MLflow client score with it. The module is complete in itself
(standard library, numpy, polars, and xgboost where a model needs it), because a copy of it travels beside the model into MLflow.

Guarantees

* `build` makes the same bytes from the same parts: members stored in a fixed order, with a fixed time.
* A row's scores do not depend on the rows beside it, bit for bit, as long as the owner's transform treats each row alone (preparation
  checks that on a sample). XGBoost sums a row's trees in one order for any number of rows and threads; custom models are always given
  blocks of `BLOCK` rows, because matrix products take other paths for other shapes.
* Two predictors whose code has the same package names but other contents live side by side in one process (champion and challenger).
  While a predictor runs its owner's code, its own modules take the place of the others in ``sys.modules``, under a lock; afterwards the
  others are put back. So absolute imports, imports inside functions and ``importlib`` find the predictor's own version. The price:
  owners' transforms run one at a time in a process. The model itself scores outside this lock.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import shutil
import sys
import tempfile
import threading
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

BLOCK = 128
"""Rows that a custom model is given at once; the last block is filled up."""

_MANY = 2_000  # rows from which more than one thread pays
_EPOCH = (1980, 1, 1, 0, 0, 0)
Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class PredictorError(ValueError):
    """The predictor cannot score."""


class InputMismatch(PredictorError):
    """The rows do not have the columns or types that the predictor was trained on."""


class OwnerCodeError(PredictorError):
    """The owner's code raised an exception, or returned something that cannot be used; ``__cause__`` holds the exception."""


class InfiniteFeature(OwnerCodeError):
    """A feature of these rows is infinite, or too large for 32 bits."""


class NotExplainable(PredictorError):
    """What a model says of its scores is known for XGBoost only."""


# --- the artifact ----------------------------------------------------------------------------------------------------------


def build(
    destination: Path,
    *,
    manifest: Mapping[str, Any],
    format: str,
    files: Mapping[str, Path | bytes],
    state: Path | bytes | None = None,
    code: Path | bytes | None = None,
    predict: str | None = None,
) -> Path:
    """Write the predictor of a dataset's *manifest* and a model's *files* to *destination*; the same parts give the same bytes.

    *format* is ``xgboost-ubj`` (one file, `Booster.save_raw`) or ``custom`` (any files, scored by the owner's function *predict*).
    *state* holds the bytes of the fitted transform's state, *code* the zip of the owner's code.
    """
    transform, target = manifest.get("transform"), manifest["target"]
    if format not in ("xgboost-ubj", "custom") or (format == "custom") != (predict is not None):
        raise PredictorError(f"a model of format {format!r} with predict={predict!r} cannot be scored")
    members: dict[str, Path | bytes] = {f"model/{name}": files[name] for name in sorted(files)}
    if state is not None:
        members["state.zip"] = state
    if code is not None:
        members["code.zip"] = code
    about = {
        "version": 1,
        "format": format,
        "model": sorted(files),
        "features": manifest["features"]["names"],
        "classes": manifest["classes"],
        "target": target,
        "schema": [column for column in manifest["schema"] if column["name"] != target["column"]],
        "personal": [name for name in manifest.get("personal", ()) if name != target["column"]],
        "transform": transform and {"reference": transform["reference"], "state": "state.zip" if state is not None else None},
        "predict": predict,
        "code": "code.zip" if code is not None else None,
    }
    _write_zip(destination, {"predictor.json": json.dumps(about, sort_keys=True, indent=1).encode(), **members})
    return destination


def load(source: Path | str | bytes, folder: Path | None = None) -> Predictor:
    """The predictor in *source* (a path, or the bytes). Files are unpacked below *folder*, or in a temporary folder that goes with it."""
    return Predictor(Path(source) if isinstance(source, str) else source, folder)


def _write_zip(destination: Path | io.BytesIO, members: Mapping[str, Path | bytes]) -> None:
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with archive.open(info, "w") as out, io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as body:
                shutil.copyfileobj(body, out, 1 << 20)


# --- a fitted transform's state ----------------------------------------------------------------------------------------------


def dump_state(state: Any) -> bytes:
    """*state* (None, booleans, numbers, strings, lists, dicts with string keys, numpy arrays) as deterministic bytes without pickle.

    Raises TypeError naming the place of anything else: what is saved is exactly what `load_state` gives back.
    """
    arrays: dict[str, Path | bytes] = {}

    def plain(value: Any, place: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list | tuple):
            return [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or key == "__array__":
                    raise TypeError(f"{place} has the key {key!r}; keys must be strings")
            return {key: plain(item, f"{place}.{key}") for key, item in value.items()}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufUS":
            name, body = f"{len(arrays)}.npy", io.BytesIO()
            np.save(body, value, allow_pickle=False)
            arrays[name] = body.getvalue()
            return {"__array__": name}
        raise TypeError(f"{place} is a {type(value).__name__}; a state holds plain JSON values and numeric or text numpy arrays")

    tree = json.dumps(plain(state, "state"), ensure_ascii=False).encode()
    archive = io.BytesIO()
    _write_zip(archive, {"state.json": tree, **arrays})
    return archive.getvalue()


def load_state(body: bytes) -> Any:
    """What `dump_state` was given; tuples come back as lists."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:

        def restore(value: dict[str, Any]) -> Any:
            if value.keys() == {"__array__"}:
                return np.load(io.BytesIO(archive.read(value["__array__"])), allow_pickle=False)
            return value

        return json.loads(archive.read("state.json"), object_hook=restore)


# --- raw rows and features ---------------------------------------------------------------------------------------------------

_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64),
        *(pl.String, pl.Boolean, pl.Date, pl.Time, pl.Binary, pl.Null),
    )
}


def parse_dtype(text: str) -> Any:
    """The polars type that ``str(dtype)`` named, or None where it is none of the simple ones."""
    if match := re.fullmatch(r"Datetime\(time_unit='(ns|us|ms)', time_zone=(?:None|'([^']+)')\)", text):
        return pl.Datetime(match[1], match[2])  # type: ignore[arg-type]
    if match := re.fullmatch(r"Duration\(time_unit='(ns|us|ms)'\)", text):
        return pl.Duration(match[1])  # type: ignore[arg-type]
    return _TYPES.get(text)


def conform(frame: pl.DataFrame, schema: Sequence[Mapping[str, str]]) -> pl.DataFrame:
    """*frame* with exactly the columns of *schema*, in order and of their types.

    A NaN becomes a null, as CSV, JSON and pandas differ in them. Values are converted only where nothing is lost (numbers among each other,
    text to dates). Raises InputMismatch naming the column.
    """
    present = set(frame.columns)
    missing = [column["name"] for column in schema if column["name"] not in present]
    if missing:
        raise InputMismatch(f"missing columns: {', '.join(missing)}; the rows have: {', '.join(frame.columns) or 'none'}")
    return pl.DataFrame([_as_type(frame.get_column(column["name"]), column["dtype"]) for column in schema])


def _as_type(series: pl.Series, named: str) -> pl.Series:
    if series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    if series.dtype.is_float() and np.isnan(series.to_numpy()).any():  # an expression is planned before it runs: long, for a row
        series = series.fill_nan(None)
    have, wanted = series.dtype, parse_dtype(named)
    if str(have) == named:
        return series
    if have == pl.String and wanted is not None and wanted.is_temporal() and wanted != pl.Duration:
        cast = parse_temporal(series, wanted)
    elif wanted is not None and (
        have == pl.Null or (have.is_numeric() and wanted.is_numeric()) or (have.is_temporal() and wanted.is_temporal())
    ):
        cast = series.cast(wanted, strict=False)
    else:
        raise InputMismatch(f"column {series.name!r} holds {have}, but the model was trained on {named}")
    lost = series.is_not_null() & (cast.is_null() | ((series != cast) if have.is_float() and wanted.is_integer() else False))
    if lost.any():
        raise InputMismatch(f"column {series.name!r}: {series.filter(lost)[0]!r} cannot be read as {named}")
    return cast


_DATE = ("%Y-%m-%d",)
_TIME = ("%H:%M:%S%.f", "%H:%M")
_LOCAL = tuple(f"%Y-%m-%d{between}{time}" for between in "T " for time in _TIME)
_ZONED = ("%+", "%Y-%m-%d %H:%M:%S%.f%:z")


def parse_temporal(text: pl.Series, dtype: Any) -> pl.Series:
    """ISO dates and times in *text* as *dtype*, null where it is none; what is read does not depend on the other rows.

    A time with an offset needs a type with a time zone, and the reverse.
    """
    if dtype == pl.Date:
        return text.str.to_date(_DATE[0], strict=False)
    if dtype == pl.Time:
        made = [text.str.to_time(form, strict=False) for form in _TIME]
    elif dtype.time_zone is None:
        made = [text.str.to_datetime(form, strict=False, time_unit=dtype.time_unit) for form in _LOCAL]
        made.append(text.str.to_date(_DATE[0], strict=False).cast(dtype, strict=False))
    else:
        made = [text.str.to_datetime(form, strict=False, time_unit=dtype.time_unit, time_zone="UTC") for form in _ZONED]
        made = [series.dt.convert_time_zone(dtype.time_zone) for series in made]
    return pl.select(pl.coalesce(made)).to_series().alias(text.name)


def numbers(features: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The columns *names* as float32 (booleans 0 and 1, nulls stay null).

    Raises OwnerCodeError naming a column that is missing or holds no numbers, InfiniteFeature naming one that holds an infinite one.
    """
    schema = dict(zip(features.columns, features.dtypes, strict=True))
    for name in names:
        dtype = schema.get(name)
        if dtype is None:
            raise OwnerCodeError(f"the transform's output lacks the column {name!r}; it has: {', '.join([*schema][:20])}")
        if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
            raise OwnerCodeError(f"the transform's column {name!r} holds {dtype}; features are numbers or booleans")
    cast = pl.DataFrame([features.get_column(name).cast(pl.Float32) for name in names])  # no expressions: see `_as_type`
    values = cast.to_numpy()
    if np.isfinite(values).all():
        return cast
    if (infinite := np.isinf(values).any(axis=0)).any():
        raise InfiniteFeature(f"the feature {names[int(infinite.argmax())]!r} holds an infinite value, or one too large for 32 bits")
    return cast.with_columns(pl.all().fill_nan(None))


class Transform:
    """The owner's transform: a function of a frame, or a class with ``apply(frame)``, or with ``fit(frames)`` and ``apply(frame, state)``.

    *target* is the attribute itself, None for no transform: then the raw columns are the features. *state* is what `load_state` gave.
    """

    def __init__(self, target: Any | None, state: Any = None) -> None:
        try:
            self._target = target() if isinstance(target, type) else target
        except Exception as err:
            raise OwnerCodeError(f"the transform cannot be made: {type(err).__name__}: {err}") from err
        self.fits = hasattr(self._target, "fit")
        self._state = state

    def fit(self, frames: Iterator[pl.DataFrame]) -> Any:
        """The state that the owner's ``fit`` makes of the training split's *frames*."""
        assert self._target is not None
        return self._target.fit(frames)

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the owner makes of *frame*: one row each, same order. Raises OwnerCodeError."""
        if self._target is None:
            return frame
        function = getattr(self._target, "apply", self._target)
        try:
            made = function(frame, self._state) if self.fits else function(frame)
        except Exception as err:
            raise OwnerCodeError(f"the transform failed: {type(err).__name__}: {err}") from err
        if not isinstance(made, pl.DataFrame):
            raise OwnerCodeError(f"the transform returned a {type(made).__name__}; it must return a polars.DataFrame")
        if made.height != frame.height:
            raise OwnerCodeError(f"the transform made {made.height} rows of {frame.height}; it must keep every row and their order")
        return made


class _OwnerCode:
    """The owner's packages as one predictor sees them (see the module's docstring)."""

    _lock = threading.RLock()

    def __init__(self, folder: Path | None) -> None:
        self._folder = str(folder) if folder else None
        self._modules: dict[str, ModuleType] = {}
        self._names = {entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or any(entry.glob("**/*.py"))} if folder else set()

    def load(self, reference: str) -> Any:
        module, _, attribute = reference.partition(":")
        with self.active():
            try:
                return getattr(importlib.import_module(module), attribute)
            except Exception as err:
                raise OwnerCodeError(f"{reference} cannot be imported: {type(err).__name__}: {err}") from err

    @contextmanager
    def active(self) -> Iterator[None]:
        if self._folder is None:
            yield
            return
        with self._lock:
            others = self._take()
            sys.modules.update(self._modules)
            sys.path.insert(0, self._folder)
            modules = len(sys.modules)
            try:
                yield
            finally:
                sys.path.remove(self._folder)
                if len(sys.modules) == modules and all(name in sys.modules for name in self._modules):
                    # nothing was imported: no need to look through thousands of names
                    self._modules = {name: sys.modules.pop(name) for name in self._modules}
                else:
                    self._modules = self._take()
                sys.modules.update(others)

    def _take(self) -> dict[str, ModuleType]:
        if not any(name in sys.modules for name in self._names):  # a package is there before its modules are
            return {}
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in self._names}


# --- scoring -----------------------------------------------------------------------------------------------------------------


class Predictor:
    """Scores raw rows. ``about`` is its predictor.json, ``sha256`` the artifact's digest. Safe to use from several threads."""

    def __init__(self, source: Path | bytes, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="predictor-", dir=folder))
        self._cleanup = weakref.finalize(self, shutil.rmtree, self.folder, True)
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as body:
            self.sha256 = hashlib.file_digest(body, "sha256").hexdigest()
            try:
                archive = zipfile.ZipFile(body)
                self.about: dict[str, Any] = json.loads(archive.read("predictor.json"))
            except (zipfile.BadZipFile, KeyError, ValueError) as err:
                raise PredictorError(f"this is no predictor: {err}") from err
            if self.about["version"] != 1:
                raise PredictorError(f"a predictor of version {self.about['version']} needs a newer release of this package")
            archive.extractall(self.folder)
        self.schema: list[dict[str, str]] = self.about["schema"]
        self.features: list[str] = self.about["features"]
        self.classes: list[str] = self.about["classes"]
        self._code = _OwnerCode(self._unpack_code())
        self._transform = self._load_transform()
        self._score = self._load_model()

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Scores of raw rows, in their order. Raises InputMismatch, OwnerCodeError.

        Classification: ``p_<class>`` (float64) for each class, and ``prediction``, the most probable class. Regression: ``prediction``.
        """
        return self.score(self.transform(frame))

    def transform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What the owner's transform makes of raw rows; columns beyond the schema's are ignored. Raises InputMismatch, OwnerCodeError."""
        frame = conform(frame, self.schema)
        with self._code.active():
            return self._transform.apply(frame)

    def score(self, features: pl.DataFrame) -> pl.DataFrame:
        """The model's scores of a transform's output, as `predict` returns them."""
        matrix = numbers(features, self.features).to_numpy(order="c")
        raw = np.asarray(self._score(matrix) if len(matrix) else np.zeros((0, max(1, len(self.classes)))), dtype=np.float64)
        if not self.classes and raw.size == len(matrix):
            return pl.DataFrame({"prediction": raw.reshape(len(matrix))})
        if self.classes and (raw.ndim == 1 or raw.shape[1] == 1):
            positive = raw.reshape(len(matrix))
            raw = np.column_stack([1.0 - positive, positive])
        if not self.classes or raw.shape != (len(matrix), len(self.classes)):
            raise PredictorError(f"the model gives scores of shape {raw.shape} for {len(matrix)} rows and {len(self.classes)} classes")
        if not ((raw >= 0) & (raw <= 1)).all():
            raise PredictorError(
                "the model's scores are no probabilities; train with an objective such as binary:logistic or multi:softprob"
            )
        scores = [pl.Series(f"p_{name}", np.ascontiguousarray(raw[:, i])) for i, name in enumerate(self.classes)]
        best = [self.classes[i] for i in raw.argmax(axis=1).tolist()]
        return pl.DataFrame([*scores, pl.Series("prediction", best, dtype=pl.String)])

    def explain(self, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
        """How much each feature adds to each row's scores: rows x outputs x (features and, last, the bias), in the model's margin.

        Summed over the last axis it is the margin: log-odds for ``binary:logistic``, the number itself for a plain regression. By TreeSHAP.
        Raises NotExplainable, InputMismatch, OwnerCodeError.
        """
        if not isinstance(self._score, _Boosted):
            raise NotExplainable("the contributions of features are known for models of XGBoost only")
        made: np.ndarray[Any, np.dtype[np.float32]] = self._score.contributions(
            numbers(self.transform(frame), self.features).to_numpy(order="c")
        )
        return made

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """Raw rows given as dicts (JSON) as a frame for `predict`; a key that some rows lack is a null there. Raises InputMismatch."""
        columns = {}
        for name in (column["name"] for column in self.schema):
            if not any(name in row for row in rows):
                continue  # `predict` says so
            values = [row.get(name) for row in rows]
            if {type(value) for value in values if value is not None} == {int, float}:
                values = [None if value is None else float(value) for value in values]
            try:
                columns[name] = pl.Series(name, values)
            except (TypeError, OverflowError, pl.exceptions.PolarsError) as err:
                raise InputMismatch(f"column {name!r} mixes types: {err}") from None
        return pl.DataFrame(columns)

    def _unpack_code(self) -> Path | None:
        if self.about["code"] is None:
            return None
        with zipfile.ZipFile(self.folder / self.about["code"]) as archive:
            archive.extractall(self.folder / "code")
        return self.folder / "code"

    def _load_transform(self) -> Transform:
        about = self.about["transform"]
        if about is None:
            return Transform(None)
        state = load_state((self.folder / about["state"]).read_bytes()) if about["state"] else None
        target = self._code.load(about["reference"])
        with self._code.active():
            return Transform(target, state)

    def _load_model(self) -> Any:
        folder = self.folder / "model"
        if self.about["format"] == "xgboost-ubj":
            return _Boosted(folder / self.about["model"][0])
        if self.about["format"] == "custom":
            return _Custom(self._code.load(self.about["predict"]), folder, self._code)
        raise PredictorError(f"a model of format {self.about['format']!r} needs a newer release of this package")


class _Boosted:
    """A booster of XGBoost. A DMatrix serves every kind of booster with the same bits; `Booster.predict` is not safe in threads for all."""

    def __init__(self, path: Path) -> None:
        import xgboost

        self._matrix = xgboost.DMatrix
        self._lock = threading.Lock()
        self._booster = xgboost.Booster(model_file=bytearray(path.read_bytes()))
        self._booster.set_param({"device": "cpu"})
        objective = json.loads(self._booster.save_config())["learner"]["objective"]["name"]
        if objective == "multi:softmax":  # the same model, asked for probabilities
            self._booster.set_param({"objective": "multi:softprob"})
        self._threads: int | None = None

    def __call__(self, matrix: Matrix) -> Any:
        threads = 1 if len(matrix) < _MANY else 0  # 0: all cores; waking them for a few rows takes longer than scoring these
        with self._lock:
            if threads != self._threads:
                self._booster.set_param({"nthread": threads})
                self._threads = threads
            return self._booster.predict(self._matrix(matrix, nthread=threads or None), validate_features=False)

    def contributions(self, matrix: Matrix) -> Any:
        """Rows x outputs x (features + bias)."""
        with self._lock:
            data = self._matrix(matrix)
            return self._booster.predict(data, pred_contribs=True, validate_features=False, strict_shape=True)


class _Custom:
    """The owner's ``predict(model_dir, features) -> scores``, on blocks of one size."""

    def __init__(self, function: Any, folder: Path, code: _OwnerCode) -> None:
        self._function, self._folder, self._code = function, folder, code

    def __call__(self, matrix: Matrix) -> Any:
        rows = len(matrix)
        padded = np.concatenate([matrix, np.repeat(matrix[-1:], -rows % BLOCK, axis=0)])
        scores = []
        with self._code.active():
            for start in range(0, rows, BLOCK):
                try:
                    made = np.asarray(self._function(self._folder, padded[start : start + BLOCK].copy()), dtype=np.float64)
                except Exception as err:
                    raise OwnerCodeError(f"the owner's predict failed: {type(err).__name__}: {err}") from err
                if made.ndim not in (1, 2) or len(made) != BLOCK:
                    raise OwnerCodeError(f"the owner's predict gave scores of shape {made.shape} for {BLOCK} rows")
                scores.append(made)
        return np.concatenate(scores)[:rows]


# --- MLflow ------------------------------------------------------------------------------------------------------------------


class PyfuncModel:
    """What ``mlflow.pyfunc.load_model`` wraps: pandas frames, dicts of lists or lists of dicts in, a pandas frame of scores out."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """The same scores as `Predictor.predict`, as a pandas frame with the input's index."""
        import pandas as pd  # type: ignore[import-untyped]

        if isinstance(model_input, list):
            frame, index = self.predictor.rows(model_input), None
        elif isinstance(model_input, dict):
            frame, index = pl.DataFrame(model_input), None
        else:
            names = [column["name"] for column in self.predictor.schema if column["name"] in model_input.columns]
            frame, index = pl.DataFrame({name: _from_pandas(name, model_input[name]) for name in names}), model_input.index
        scores = self.predictor.predict(frame)
        return pd.DataFrame({name: scores.get_column(name).to_list() for name in scores.columns}, index=index)


def _from_pandas(name: str, column: Any) -> pl.Series:
    if column.dtype.kind in "biuf":
        return pl.Series(name, column.to_numpy(), nan_to_null=True)
    return pl.Series(name, [None if value != value else value for value in column.tolist()])


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow's loader (``loader_module`` of the python_function flavor): *path* is the zip, or the folder that holds it."""
    found = Path(path)
    return PyfuncModel(load(found / "predictor.zip" if found.is_dir() else found))
