"""Who gives a command."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

Actor = Annotated[str | None, typer.Option("--actor", help="Who says so; default: $PERDURE_ACTOR, else $USER.")]


def person(actor: str | None) -> str:
    """The name that is recorded: what was said, else the environment's, else the login name."""
    if named := actor or os.environ.get("PERDURE_ACTOR") or os.environ.get("USER"):
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"uid {os.getuid()}"
