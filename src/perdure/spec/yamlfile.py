"""YAML as people mean it: the core schema of YAML 1.2, keys said once, and the line of every value.

YAML 1.1, which most loaders speak, reads ``no`` as false, ``10:30`` as 630, ``2026-01-01`` as a date and ``1e-3`` as text. Here only
``true`` and ``false`` are booleans, what looks like a number is one, and the rest is text
(https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from perdure.errors import InvalidInput, NotFound

MAX_BYTES = 1 << 20
MAX_NODES = 50_000  # aliases may repeat a node without end; a specification has a few hundred
REMEDY = "mend the line that is named"
PLAINER = {  # what the parser says, and what it means
    "mapping values are not allowed here": "a `:` where none can stand: put the text in quotes, or mend the indentation",
    "expected <block end>": "the indentation does not fit what stands above",
    "that cannot start any token": "text that begins like this must be put in quotes",
    "found unexpected end of stream": "the file ends inside quotes or brackets",
}

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed file: its value, and the line (from 1) of every path in it."""

    name: str
    value: Any
    lines: dict[Where, int] = field(default_factory=dict)

    def line(self, path: Where) -> int | None:
        """The line of *path*, or of the nearest part of the document that holds it."""
        for end in range(len(path), -1, -1):
            if found := self.lines.get(path[:end]):
                return found
        return None


class _Loader(yaml.SafeLoader):
    """Only composes nodes; `_Builder` makes values of them."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # the name and form that PyYAML prescribes


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def read(path: Path) -> Document:
    """The document in *path*. Raises NotFound, and InvalidInput naming the line where it is not plain YAML (or JSON)."""
    try:
        body = path.read_bytes()
    except FileNotFoundError as err:
        raise NotFound(f"there is no file {path}", remedy="check the path; it is relative to the folder that you are in") from err
    except OSError as err:
        raise InvalidInput(f"{path} cannot be read: {err.strerror}", remedy="name a YAML file that you may read") from err
    if len(body) > MAX_BYTES:
        raise InvalidInput(f"{path} has {len(body):,} bytes, more than {MAX_BYTES:,}", remedy="name a pipeline specification, not data")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = body[: err.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: not UTF-8 text", remedy="save the file as UTF-8") from err
    if path.suffix == ".json":  # YAML but for tabs, which JSON allows between values and nowhere else
        text = text.replace("\t", " ")
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """The document in *text*; *name* stands before the line in messages. Raises InvalidInput."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as err:
        raise InvalidInput(_syntax(err, text, name), remedy=REMEDY) from err
    except yaml.YAMLError as err:  # characters that no YAML may hold
        raise InvalidInput(f"{name}: {err}", remedy=REMEDY) from err
    except RecursionError as err:
        raise InvalidInput(f"{name}: nested too deeply", remedy=REMEDY) from err
    builder = _Builder(name)
    value = builder.build(node, ()) if node is not None else None
    if builder.mistakes:
        raise InvalidInput("\n  ".join(builder.mistakes), remedy=REMEDY)
    return Document(name, value, builder.lines)


def _syntax(err: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = err.problem_mark or err.context_mark
    if mark is None:
        return f"{name}: {err.problem}"
    source = text.splitlines()
    here = source[mark.line] if mark.line < len(source) else ""
    if "\t" in here[: mark.column + 1]:
        problem = "a tab: YAML is indented with spaces only"
    elif "expected a single document" in str(err.context):
        problem = "a second document begins here (---): one file holds one specification"
    else:
        problem = next((plain for said, plain in PLAINER.items() if said in str(err.problem)), str(err.problem))
        if err.context and err.context_mark and err.context_mark.line != mark.line:
            problem += f" ({err.context} that begins in line {err.context_mark.line + 1})"
    return f"{name}:{mark.line + 1}: {problem}\n    {here.strip()}".rstrip()


class _Builder:
    """Turns nodes into plain values, notes the lines, and collects what it cannot accept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[Where, int] = {}
        self.mistakes: list[str] = []
        self._open: set[int] = set()
        self._nodes = 0

    def build(self, node: yaml.Node, path: Where) -> Any:
        """The plain value of *node*, which stands at *path*."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidInput(f"{self.name}: more than {MAX_NODES:,} values", remedy="use fewer aliases (*name)")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            return self._refuse(node, "an alias (*) that contains itself")
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: Where) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            self._refuse(node, f"the tag {node.tag} is not allowed")
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, "a field's name must be plain text")
                continue
            key = key_node.value
            if key in found:
                self._refuse(key_node, f"{'.'.join(map(str, (*path, key)))}: given twice, first in line {self.lines[(*path, key)]}")
                continue
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, (*path, key))
        return found

    def _sequence(self, node: yaml.Node, path: Where) -> list[Any]:
        if node.tag != "tag:yaml.org,2002:seq":
            self._refuse(node, f"the tag {node.tag} is not allowed")
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int" if len(text) < 100:
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            case "float" if len(text) < 100:
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "int" | "float":
                return self._refuse(node, "a number of more than 100 digits")
            case _:
                return self._refuse(node, f"the tag {node.tag} is not allowed")

    def _refuse(self, node: yaml.Node, why: str) -> None:
        self.mistakes.append(f"{self.name}:{node.start_mark.line + 1}: {why}")
