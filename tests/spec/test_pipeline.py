"""The specification: what is accepted, and how mistakes are told."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import InvalidInput, NotFound, UnknownTrainer
from perdure.spec.pipeline import Pipeline, check, json_schema, load, load_file, with_params
from perdure.spec.xgboost_parameters import PARAMETERS, ROUNDS

SCHEMA = Path(__file__).parent.parent.parent / "docs" / "pipeline.schema.json"
SMALL: dict[str, Any] = {"name": "m", "data": {"source": {"uri": "x.csv", "format": "csv"}, "target": "label"}}
WHOLE = """\
name: moderation
owner: trust@example.org
data:
  source: {uri: data/sms-spam.tsv, format: tsv, columns: [label, text]}
  schema: moderation.steps:Message
  target: {column: label, positive: spam}
  split: {by: hash, test: 0.2, seed: 7}
  transform: moderation.steps:Features
  partitions: 8
train:
  trainer: xgboost
  params: {objective: binary:logistic, max_depth: 6, eta: 1e-1, rounds: 200}
  scaling: {workers: 2, cpus_per_worker: 1, gpus_per_worker: 0}
  checkpoint: {every_rounds: 20}
evaluate:
  metrics: [roc_auc, pr_auc, log_loss]
  slices: [{column: length_bucket}]
  gates: [{metric: roc_auc, min: 0.95}, {metric: roc_auc, min_change: -0.002, versus: champion}]
promote: {approval: {required: 1, deadline: 14d}}
patience: 10m
"""


def changed(path: str, value: Any, base: dict[str, Any] = SMALL) -> dict[str, Any]:
    """*base* with *value* at the dotted *path*."""
    raw: dict[str, Any] = json.loads(json.dumps(base))
    *parents, last = path.split(".")
    here = raw
    for name in parents:
        here = here.setdefault(name, {})
    here[last] = value
    return raw


def mistakes(raw: Any) -> list[str]:
    found = check(raw)
    assert isinstance(found, list), "it was accepted"
    return [str(each) for each in found]


def written(tmp_path: Path, text: str, name: str = "pipeline.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_whole_example(tmp_path: Path) -> None:
    spec = load_file(written(tmp_path, WHOLE))
    assert spec.model_name == "moderation"
    assert spec.train.params == {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "rounds": 200}
    assert spec.code_references == ["moderation.steps:Message", "moderation.steps:Features"]
    assert spec.promote.approval.deadline == timedelta(days=14)


def test_canonical_form_reads_back(tmp_path: Path) -> None:
    spec = load_file(written(tmp_path, WHOLE))
    again = load(json.loads(json.dumps(spec.as_json())))
    assert again == spec
    assert again.sha256 == spec.sha256


@pytest.mark.parametrize(
    ("text", "duration"),
    [("90s", timedelta(seconds=90)), ("1.5h", timedelta(minutes=90)), ("365d", timedelta(days=365)), (0.25, timedelta(milliseconds=250))],
)
def test_durations_read_back(text: str | float, duration: timedelta) -> None:
    spec = load(changed("patience", text))
    assert spec.patience == duration
    assert load(spec.as_json()).patience == duration


def test_defaults_do_not_change_identity() -> None:
    assert load(changed("train.scaling.workers", 1)).sha256 == load(SMALL).sha256
    assert load(changed("train.scaling.workers", 2)).sha256 != load(SMALL).sha256


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("trian", {}, "trian: unknown field; did you mean train?"),
        ("shape", 1, "shape: unknown field; known here: name, owner, model, data"),
        ("data.shema", "a.b:C", "data.shema: unknown field; did you mean data.schema?"),
        ("train.workers", 2, "train.workers: unknown field; it belongs to train.scaling: train.scaling.workers"),
        (
            "name",
            "Not This",
            "name: must be lowercase letters, digits, - and _, beginning with a letter or digit, at most",
        ),
        ("data.target", 3, "data.target: must be a mapping of fields, not 3"),
        ("data.target.positive", True, 'data.target.positive: must be text, not true; write it in quotes: "True"'),
        ("data.source.format", "tvs", 'data.source.format: must be csv or tsv or parquet, not "tvs"; did you mean tsv?'),
        ("data.source.columns", ["a", "label", "a"], 'data.source.columns[2]: "a" is named twice'),
        ("data.source.columns", ["labels", "x"], 'data.target.column: "label" is not in data.source.columns; did you mean labels?'),
        ("data.schema", "steps.Message", "data.schema: must be package.module:attribute, such as moderation.steps:Features, not"),
        ("data.split", {"by": "time"}, "data.split.column: missing: name the time column"),
        ("data.split", {"column": "t"}, "data.split.column: a split by hash takes no column"),
        ("data.split", {"test": 1}, "data.split.test: must be less than 1, not 1"),
        ("data.partitions", 0, "data.partitions: must be at least 1, not 0"),
        ("data.partitions", 2.5, "data.partitions: must be a whole number, not 2.5"),
        ("patience", "10 minutes", 'patience: must be a duration such as 90s, 10m, 24h or 14d, not "10 minutes"'),
        ("patience", -1, "patience: must be a duration from 0s to 3650d, not -1"),
        ("patience", True, "patience: must be a duration such as"),
        ("train.trainer", "xgbost", 'train.trainer: there is no trainer "xgbost"; did you mean xgboost?'),
        ("train.trainer", "mine:fit", "train.predict: missing: a trainer of one's own needs"),
        ("train.params", {"rounds": 0}, "train.params.rounds: must be a whole number from 1 to 1000000, not 0"),
        ("train.params", {"rounds": True}, "train.params.rounds: must be a whole number"),
        ("train.params", {"max_detph": 3}, "train.params.max_detph: XGBoost knows no such parameter; did you mean max_depth?"),
        ("train.params", {"eta": float("nan")}, "train.params: `eta` must be a finite number, not nan"),
        ("train.params", {"objective": "reg:squarederror"}, "learns numbers, but data.target.task is classification"),
        ("train.engine", "spark", 'train.engine: must be ray or local, not "spark"'),
        ("train", {"engine": "local", "scaling": {"workers": 2}}, "train.scaling.workers: the local engine has one worker"),
        ("evaluate.metrics", ["roc_acu"], 'evaluate.metrics[0]: "roc_acu" is no metric of a classification; did you mean roc_auc?'),
        ("evaluate.metrics", ["rmse"], 'evaluate.metrics[0]: "rmse" is no metric of a classification; known: roc_auc, pr_auc'),
        ("evaluate.gates", [{"metric": "f1"}], "evaluate.gates[0]: give exactly one of min, max, min_change, max_change; there is none"),
        ("evaluate.gates", [{"metric": "f1", "min": 0, "max": 1}], "max_change; not min and max"),
        ("evaluate.gates", [{"metric": "f1", "min_change": 0}], "evaluate.gates[0].versus: missing: min_change needs `versus: champion`"),
        ("evaluate.gates", [{"metric": "f1", "min": 0, "versus": "champion"}], "min is a bound on the value itself"),
        ("evaluate.gates", [{"metric": "f1", "min": 0, "slice": "a"}], 'evaluate.gates[0].slice: "a" is no column of evaluate.slices'),
        ("evaluate.gates", [{"metric": "f1", "min": float("inf")}], "evaluate.gates[0].min: must be a finite number"),
        ("evaluate.human", {"rubrik": "pairwise"}, "evaluate.human.rubrik: unknown field; did you mean evaluate.human.rubric?"),
        ("evaluate.human", {"rubric": "stars"}, 'evaluate.human.rubric: must be pairwise, not "stars"'),
        ("evaluate.human", {"sample": 0}, "evaluate.human.sample: must be at least 1, not 0"),
        ("evaluate.human", {"min_win_rate": 55}, "evaluate.human.min_win_rate: must be at most 1, not 55"),
        ("evaluate.human", {"confidence": 0.5}, "evaluate.human.confidence: must be more than 0.5, not 0.5"),
        ("evaluate.human", {"columns": []}, "evaluate.human.columns: must not be empty"),
        ("evaluate.human", {"columns": ["a", "a"]}, 'evaluate.human.columns[1]: "a" is named twice'),
        ("evaluate.human", {"columns": ["label"]}, 'evaluate.human.columns[0]: "label" is the target, which people are asked about'),
        ("evaluate.human", {"overlap": {"labels": 3, "most": 1}}, "evaluate.human.overlap: `most` must be at least `labels`"),
        ("promote.approval", {"required": 2, "approvers": ["a", "a"]}, "promote.approval.required: needs 2 votes of 1 approvers"),
    ],
)
def test_one_mistake_is_told_once(path: str, value: Any, told: str) -> None:
    base = changed("data.target", {"column": "label"}) if path.startswith("data.target.") else SMALL
    found = mistakes(changed(path, value, base))
    assert len(found) == 1, found
    assert told in found[0]


def test_parquet_names_its_own_columns() -> None:
    found = mistakes(changed("data.source", {"uri": "x", "format": "parquet", "columns": ["label"], "quoting": True}))
    assert found == [f"data.source.{name}: a parquet file says this itself; leave it out" for name in ("columns", "quoting")]


def test_regression_has_no_positive_class() -> None:
    found = mistakes(changed("data.target", {"column": "price", "task": "regression", "positive": "high"}))
    assert len(found) == 1
    assert "a regression has no positive class" in found[0]


def test_every_mistake_at_once_by_line(tmp_path: Path) -> None:
    """Also those of rules over several fields, where another field of the same part is wrong too."""
    text = """\
name: Moderation
data:
  source: {uri: data/sms-spam.tsv, format: tsv}
  traget: {column: label}
  split:
    by: time
    test: 1.5
train:
  trainer: xgbost
  stall: 10 minutes
  engine: local
  scaling:
    workers: 2
evaluate:
  metrics: [rmse]
"""
    path = written(tmp_path, text)
    with pytest.raises(InvalidInput) as caught:
        load_file(path)
    lines = caught.value.problem.splitlines()
    assert lines[0] == "the specification has 8 mistakes"
    places = [line.strip().removeprefix(f"{path}:").split(": ")[:2] for line in lines[1:]]
    assert places == [
        ["1", "name"],
        ["4", "data.traget"],
        ["5", "data.split.column"],
        ["7", "data.split.test"],
        ["9", "train.trainer"],
        ["10", "train.stall"],
        ["13", "train.scaling.workers"],
        ["15", "evaluate.metrics[0]"],
    ]
    assert "perdure schema" in str(caught.value.remedy)


def test_a_wrong_field_does_not_make_other_rules_speak() -> None:
    """`by` is misspelt: nobody knows whether `column` is right, so nothing is said about it."""
    found = mistakes(changed("data.split", {"by": "tiem", "column": "t"}))
    assert len(found) == 1
    assert found[0].startswith("data.split.by: must be hash or time or group")


def test_unknown_trainer_alone_has_its_own_type() -> None:
    with pytest.raises(UnknownTrainer):
        load(changed("train.trainer", "random_forest"))


@pytest.mark.parametrize("raw", [None, [], "moderation", 3, {"name": 3, "data": 3, "evaluate": [], "train": {"params": []}}])
def test_any_json_is_answered_with_invalid_input(raw: Any) -> None:
    with pytest.raises(InvalidInput, match="mistake"):
        load(raw, "spec")


def test_prefix_of_an_inline_specification() -> None:
    with pytest.raises(InvalidInput, match=r"spec\.data: missing"):
        load({"name": "m"}, "spec")


def test_params_of_a_run() -> None:
    spec = load(changed("train.params", {"rounds": 100, "eta": 0.1}))
    assert with_params(spec, {"rounds": 5, "eta": None}).train.params == {"rounds": 5}
    assert with_params(spec, {}) == spec
    with pytest.raises(InvalidInput, match=r"params\.ronds: XGBoost knows no such parameter; did you mean rounds\?"):
        with_params(spec, {"ronds": 5})
    with pytest.raises(InvalidInput, match=r"params\.rounds: must be a whole number"):
        with_params(spec, {"rounds": "5"})


def test_params_of_an_own_trainer_are_its_own_affair() -> None:
    spec = load(changed("train", {"trainer": "mine:fit", "predict": "mine:score", "engine": "local"}))
    assert with_params(spec, {"anything": [1, {"a": None}]}).train.params == {"anything": [1, {"a": None}]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: m\n\tdata: 1\n", ":2: a tab: YAML is indented with spaces only"),
        ("name: m\nname: n\n", ":2: name: given twice, first in line 1"),
        ("data: {target: a, target: b}\n", ":1: data.target: given twice"),
        ("name: m\n---\nname: n\n", ":2: a second document begins here"),
        ("name: 'm\ndata: 1\n", "the file ends inside quotes or brackets"),
        ("name: m: n\n", ":1: a `:` where none can stand"),
        ("name: @m\n", ":1: text that begins like this must be put in quotes"),
        ("name: !!python/name:os.system ''\n", ":1: the tag tag:yaml.org,2002:python/name:os.system is not allowed"),
        ("name: &a [*a]\n", ":1: an alias (*) that contains itself"),
        ("? [a]\n: 1\n", ":1: a field's name must be plain text"),
        ("[" * 5000, "nested too deeply"),
        (f"name: {'9' * 5000}\n", ":1: a number of more than 100 digits"),
        ("", "must be a mapping of fields, not empty"),
    ],
)
def test_yaml_traps_are_told_with_their_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_file(written(tmp_path, text))
    assert told in caught.value.problem


def test_aliases_cannot_explode(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(InvalidInput, match="use fewer aliases"):
        load_file(written(tmp_path, laughs))


def test_yaml_words_are_what_they_look_like(tmp_path: Path) -> None:
    """Neither `no` (Norway) nor `10:30` nor a date becomes something else."""
    text = "name: m\ndata: {source: {uri: 2026-01-01, format: csv, null_values: [no, 10:30, 'NA']}, target: {column: on, positive: yes}}\n"
    spec = load_file(written(tmp_path, text))
    assert (spec.data.source.uri, spec.data.target.column, spec.data.target.positive) == ("2026-01-01", "on", "yes")
    assert spec.data.source.null_values == ["no", "10:30", "NA"]


def test_json_files_are_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(SMALL, indent="\t"), "pipeline.json")
    assert load_file(path) == load(SMALL)
    path.write_text('{\n\t"name": "m",\n\t"name": "n"}')
    with pytest.raises(InvalidInput, match=r"pipeline\.json:3: name: given twice"):
        load_file(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        load_file(tmp_path / "nothing.yaml")
    with pytest.raises(InvalidInput, match="cannot be read"):
        load_file(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: m\nowner: J\xfcrgen\n")
    with pytest.raises(InvalidInput, match=r"latin\.yaml:2: not UTF-8"):
        load_file(tmp_path / "latin.yaml")


def test_exported_schema_is_current() -> None:
    """`perdure schema > docs/pipeline.schema.json` renews it."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_schema_is_good_for_editors(tmp_path: Path) -> None:
    schema = json_schema()
    parts = [schema, *schema["$defs"].values()]
    missing = [name for part in parts for name, field in part["properties"].items() if not field.get("description")]
    assert not missing
    assert all(part["additionalProperties"] is False for part in parts)
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert validator.is_valid(load_file(written(tmp_path, WHOLE)).as_json())
    assert validator.is_valid(SMALL)
    assert not validator.is_valid(changed("traget", 1))
    assert not validator.is_valid(changed("patience", "soon"))


def test_xgboost_knows_every_listed_parameter() -> None:
    """A known parameter with a senseless value is refused by XGBoost; of an unknown one it says that it is not used."""
    np = pytest.importorskip("numpy")
    xgb = pytest.importorskip("xgboost")
    rows = np.linspace(0, 1, 120).reshape(40, 3)
    plain = xgb.DMatrix(rows, np.arange(40) % 2)
    ranked = xgb.DMatrix(rows, np.arange(40) % 2, group=[20, 20])
    censored = xgb.DMatrix(rows, label_lower_bound=np.ones(40), label_upper_bound=np.full(40, 2.0))
    cases = [
        ({}, plain),
        ({"booster": "dart"}, plain),
        ({"booster": "gblinear", "updater": "coord_descent"}, plain),
        ({"objective": "reg:tweedie"}, plain),
        ({"objective": "reg:pseudohubererror"}, plain),
        ({"objective": "reg:quantileerror", "quantile_alpha": 0.5}, plain),
        ({"objective": "survival:aft"}, censored),
        ({"objective": "rank:ndcg"}, ranked),
    ]

    def known(name: str) -> bool:
        for base, matrix in cases:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    xgb.train({**base, name: "senseless"}, matrix, 1)
                except (xgb.core.XGBoostError, ValueError):
                    return True
                if not any("not used" in str(each.message) for each in said):
                    return True
        return False

    checked = PARAMETERS - {"verbosity"}  # a senseless verbosity silences the very warning
    assert [name for name in sorted(checked) if not known(name)] == []
    assert not known("max_detph")
    assert ROUNDS not in PARAMETERS


def test_pipeline_is_frozen() -> None:
    spec = load(SMALL)
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]
    assert isinstance(spec, Pipeline)


def test_people_who_compare() -> None:
    human = {"sample": 50, "rubric": "pairwise", "min_win_rate": 0.5}
    found = load(changed("evaluate.human", human)).evaluate.human
    assert found is not None
    assert found.gate() == human
    asked = found.campaign("ann")
    assert (asked["choices"], asked["shows"], asked["owner"]) == (["left", "right", "tie"], "pair", "ann")
    assert asked["deadline"] == "604800s"
    known = changed("data.source.columns", ["label", "text"])
    told = 'evaluate.human.columns[0]: "txt" is not in data.source.columns; did you mean text?'
    assert mistakes(changed("evaluate.human.columns", ["txt"], known)) == [told]


LABELED: dict[str, Any] = {**SMALL, "label": {"question": "What is it?"}}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("label.bacth", 5, "label.bacth: unknown field; did you mean label.batch?"),
        ("label.random", 2, "label.random: must be at most 1, not 2"),
        ("label.strategy", "margins", 'label.strategy: must be margin or entropy or least_confidence or random, not "margins"'),
        ("label.metric", "f2", 'label.metric: "f2" is no metric of a classification; known: roc_auc'),
        ("label.payload", ["a", "b"], "label.payload: text shows one column, not 2; or use `shows: row`"),
        ("label.payload", ["label"], 'label.payload[0]: "label" is the target, which people are asked about'),
        ("label.choices", ["yes"], "label.choices: one choice is no question"),
        ("label.choices", ["yes", "no", "yes"], 'label.choices[2]: "yes" is named twice'),
        ("label.shows", "confirm", "label.predictions.show: must be true: what is confirmed has to be shown"),
        ("label.ladder", [{"after": 0.5, "then": "remind"}], "label.deadline: missing: a ladder leads to a deadline"),
        ("label.overlap", {"labels": 5, "most": 2}, "label.overlap: `most` must be at least `labels`"),
        ("label.when", {}, "label.when.confident_below: missing: asked while less than this share"),
    ],
)
def test_mistakes_in_what_people_are_asked(path: str, value: Any, told: str) -> None:
    found = mistakes(changed(path, value, LABELED))
    assert len(found) == 1
    assert found[0].startswith(told)


def test_what_people_are_asked_fits_the_data() -> None:
    raw = changed("data.source.columns", ["label", "text"], LABELED)
    assert mistakes(changed("label.payload", ["txt"], raw)) == ['label.payload[0]: "txt" is not in data.source.columns; did you mean text?']
    two = changed("data.target", {"column": "label", "positive": "spam"}, LABELED)
    assert mistakes(changed("label.choices", ["ham", "eggs"], two)) == [
        'label.choices: must be the two classes of data.target, of which "spam" is the positive one'
    ]
    number = changed("data.target", {"column": "label", "task": "regression"}, LABELED)
    assert mistakes(changed("label.choices", ["a", "b"], number)) == [
        "label.strategy: a regression gives no probabilities to be unsure by; use `strategy: random`",
        "label.choices: a regression has no classes; leave it out: people are asked for a number",
    ]
    assert load(changed("label.strategy", "random", number)).label is not None


def test_a_round_is_a_campaign() -> None:
    label = load(changed("label.deadline", "14d", LABELED)).label
    assert label is not None
    asked = label.campaign(owner="ann", classes=["no", "yes"])
    assert (asked["question"], asked["choices"], asked["owner"], asked["deadline"]) == ("What is it?", ["no", "yes"], "ann", "1209600s")
