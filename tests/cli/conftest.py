"""How tests call the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app

Call = Callable[..., Result]


@pytest.fixture
def call() -> Call:
    """Run a command in this process; its streams are kept apart."""
    return lambda *arguments, **options: CliRunner().invoke(app, [str(each) for each in arguments], **options)


def document(result: Result) -> Any:
    """The one JSON document on stdout."""
    return json.loads(result.stdout)
