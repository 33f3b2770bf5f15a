"""Mistakes in a specification, told so that they can be mended: where, what stands there, and what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from perdure.spec.yamlfile import Document

Where = tuple[str | int, ...]
Schema = Mapping[str, Any]

_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping of fields",
}


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake: the path of the field, and what is wrong there. ``line`` is 0 where no file is known."""

    line: int
    path: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        return f"{place}{self.path}: {self.text}" if self.path else f"{place}{self.text}"


def mistake(where: Where, text: str, document: Document | None = None, prefix: str = "") -> Mistake:
    """The mistake at *where*, with its line where the *document* is known."""
    line = document.line(where) if document else None
    dotted = dot(where)
    path = f"{prefix}.{dotted}" if prefix and dotted else prefix or dotted
    return Mistake(line or 0, path, text, document.name if document else "")


def dot(where: Where) -> str:
    """``("evaluate", "gates", 0, "metric")`` as ``evaluate.gates[0].metric``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")


def meant(name: object, known: Iterable[str]) -> str:
    """``; did you mean x?``, or the names that there are, or nothing."""
    names = list(known)
    close = get_close_matches(str(name), names, n=1) or [n for n in names if n.lower() == str(name).lower()]
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(names)}" if 1 < len(names) <= 24 else ""


def show(value: object, limit: int = 60) -> str:
    """*value* as it would be written in JSON, bounded."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def explain(errors: Sequence[ErrorDetails], schema: Schema) -> Iterator[tuple[Where, str]]:
    """Pydantic's *errors* as (where, what is wrong) in plain words; *schema* is the JSON Schema that was broken."""
    unknown = {tuple(e["loc"]) for e in errors if e["type"] == "extra_forbidden"}
    for error in errors:
        where = tuple(error["loc"])
        if error["type"] == "missing" and any(u[:-1] == where[:-1] and _is_close(u[-1], where[-1]) for u in unknown):
            continue  # it is there, misspelt: told once
        yield where, _words(error, where, schema)


def hidden(model: type[BaseModel], raw: Any, wrong: list[Where]) -> list[ErrorDetails]:
    """Broken rules of *model* that the fields at *wrong* hid: a part's rules are held only once all its fields are right."""
    try:
        model.model_validate(_without(raw, wrong))
    except ValidationError as err:
        rules = [error for error in err.errors(include_url=False) if error["type"] == "rule"]
    else:
        return []
    return [rule for rule in rules if not any(_overlap(by, bad) for by in _judged_by(rule) for bad in wrong)]


def _judged_by(rule: ErrorDetails) -> Iterator[Where]:
    part = rule["loc"][: len(rule["loc"]) - rule["ctx"]["depth"]]
    for name in rule["ctx"]["by"]:
        yield (*part, name)


def _overlap(one: Where, other: Where) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


def _without(raw: Any, wrong: list[Where], here: Where = ()) -> Any:
    """*raw* without the fields at *wrong*; a list that has something wrong in it is left out as a whole."""
    if isinstance(raw, dict):
        lists = {where[:-1] for where in wrong if where and isinstance(where[-1], int)}
        kept = {name: value for name, value in raw.items() if (*here, name) not in {*wrong, *lists}}
        return {name: _without(value, wrong, (*here, name)) for name, value in kept.items()}
    if isinstance(raw, list):
        return [_without(value, wrong, (*here, index)) for index, value in enumerate(raw)]
    return raw


def _words(error: ErrorDetails, where: Where, schema: Schema) -> str:
    kind, value, context = error["type"], error.get("input"), error.get("ctx") or {}
    if kind == "extra_forbidden":
        return "unknown field" + _belongs(where, schema)
    if kind == "missing":
        about = described(schema, where)
        return f"missing{f': {about}' if about else ''}"
    if kind in ("literal_error", "enum"):
        choices = _at(schema, where).get("enum") or [_at(schema, where).get("const")]
        close = get_close_matches(str(value), [str(c) for c in choices], n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        return f"must be {' or '.join(str(c) for c in choices)}, not {show(value)}{guess}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, not {show(value)}"
    if kind == "string_pattern_mismatch":
        return f"must be {_at(schema, where).get('x-form', 'of the form ' + str(context.get('pattern')))}, not {show(value)}"
    if kind in ("string_too_short", "too_short"):
        return "must not be empty"
    if kind == "int_from_float":
        return f"must be a whole number, not {show(value)}"
    for stem, words in _KINDS.items():
        if kind in (f"{stem}_type", f"{stem}_parsing", f"{stem}_attributes_type", stem):
            quote = '; write it in quotes: "' + str(value) + '"' if stem == "string" and isinstance(value, int | float) else ""
            return f"must be {words}, not {'empty' if value is None else show(value)}{quote}"
    return str(error["msg"]).removeprefix("Value error, ")


def _belongs(where: Where, schema: Schema) -> str:
    """What an unknown field was probably meant to be: a neighbour, or a field of this name elsewhere."""
    name, here = str(where[-1]), _at(schema, where[:-1])
    neighbours = list(here.get("properties", {}))
    if any(_is_close(name, n) for n in neighbours):
        guess = get_close_matches(name, neighbours, n=1) or [n for n in neighbours if n.lower() == name.lower()]
        return f"; did you mean {dot((*where[:-1], guess[0]))}?"
    elsewhere = [path for path in _fields(schema, schema, ()) if path[-1] == name]
    if len(elsewhere) == 1:
        return f"; it belongs to {dot(elsewhere[0][:-1]) or 'the top'}: {dot(elsewhere[0])}"
    return f"; known here: {', '.join(neighbours)}" if neighbours else ""


def _is_close(name: object, other: object) -> bool:
    return bool(get_close_matches(str(name).lower(), [str(other).lower()], n=1))


def described(schema: Schema, where: Where) -> str:
    """What the schema says about the field at *where*."""
    parent, last = _at(schema, where[:-1]), where[-1] if where else ""
    return str(parent.get("properties", {}).get(last, {}).get("description", ""))


def _at(schema: Schema, where: Where) -> Schema:
    """The schema of the value at *where*; empty where it says nothing."""
    here = _resolve(schema, schema)
    for part in where:
        here = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
        here = _resolve(schema, here)
    return here


def _resolve(schema: Schema, part: Schema) -> Schema:
    """*part* behind its reference; of several forms the one with fields, else the first that is not null."""
    if "$ref" in part:
        return _resolve(schema, schema["$defs"][part["$ref"].rpartition("/")[2]])
    forms = [_resolve(schema, form) for form in part.get("anyOf", part.get("allOf", []))]
    forms = [form for form in forms if form.get("type") != "null"]
    return next((form for form in forms if "properties" in form), forms[0]) if forms else part


def _fields(schema: Schema, part: Schema, where: Where) -> Iterator[Where]:
    for name, field in _resolve(schema, part).get("properties", {}).items():
        yield (*where, name)
        inner = _resolve(schema, field)
        yield from _fields(schema, _resolve(schema, inner.get("items", inner)), (*where, name))
