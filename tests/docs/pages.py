"""The documentation as data: its pages, their links, and the blocks that are executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


@dataclass(frozen=True)
class Block:
    """A fenced block that does something: a file to be written (``path``), or commands to be run."""

    line: int
    text: str
    path: str | None = None


def blocks(text: str) -> Iterator[Block]:
    """Blocks marked ``sh run`` or ``file=PATH``, in their order."""
    for found in re.finditer(r"^```(\w+) ([^\n]+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        language, mark, body = found.groups()
        line = text.count("\n", 0, found.start()) + 2
        if mark.startswith("file="):
            yield Block(line, body, mark.removeprefix("file="))
        elif (language, mark) == ("sh", "run"):
            yield Block(line, body)
        else:
            raise AssertionError(f"line {line - 1}: `{language} {mark}` marks neither a file nor commands")


def prose(text: str) -> str:
    """*text* without code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def links(text: str) -> list[str]:
    """Targets of links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The names of *text*'s headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
