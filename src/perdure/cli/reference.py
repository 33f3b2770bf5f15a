"""``python -m perdure.cli.reference``: the reference of all commands (``docs/cli.md``), made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from perdure.cli.exits import Exit
from perdure.cli.main import app

INTRO = """\
# The command line

Made from the commands themselves by `python -m perdure.cli.reference`; a test sees to it that it is current.

Results go to stdout, everything else to stderr. With `--json` stdout holds exactly one JSON document, also where the command fails
(but for a misspelt command or option): `{"error": {"type", "message", "field", "remedy"}, "exit_code"}`. Errors are explained in
[errors.md](errors.md).

A run is named by its workflow id (`run/moderation/2026-11-22`), by `pipeline/key`, by its id, by the beginning of one of these, or by
the name of its pipeline: then the newest run is meant (of commands to a run: the only one that lives).
"""


def render() -> str:
    """The whole page."""
    root: Any = typer.main.get_command(app)
    parts = [INTRO, "## Exit codes\n", "| code | meaning |", "|---|---|", *(f"| {code.value} | {code.meaning} |" for code in Exit), ""]
    parts += ["## Options of all commands\n", *_options(root), ""]
    for path, command in _commands(root, ("perdure",)):
        parts += [
            f"## {' '.join(path)}\n",
            _usage(path, command),
            "",
            _text(command.help),
            "",
            *_arguments(command),
            *_options(command),
            "",
        ]
    return "\n".join(line.rstrip() for line in "\n".join(parts).splitlines()).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))


def _usage(path: tuple[str, ...], command: Any) -> str:
    arguments = [_metavar(p) for p in command.params if p.param_type_name == "argument"]
    return f"    {' '.join([*path, *(a if p else f'[{a}]' for a, p in arguments), '[OPTIONS]'])}"


def _metavar(argument: Any) -> tuple[str, bool]:
    return argument.metavar or argument.name.upper(), argument.required


def _arguments(command: Any) -> list[str]:
    return [f"- `{_metavar(p)[0]}`: {_text(p.help)}" for p in command.params if p.param_type_name == "argument"]


def _options(command: Any) -> list[str]:
    lines = []
    for option in command.params:
        if option.param_type_name != "option" or option.hidden or option.name in ("install_completion", "show_completion"):
            continue
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        told = isinstance(option.default, int | float | str) and not isinstance(option.default, bool) and option.default != ""
        default = f" Default: {option.default}." if told else ""
        lines.append(f"- {names}: {_text(option.help)}{default}")
    return lines


def _text(text: str | None) -> str:
    """Help as prose: paragraphs without their indentation."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


if __name__ == "__main__":
    print(render(), end="")
