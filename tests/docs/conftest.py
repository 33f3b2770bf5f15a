"""A stack with a worker, a database and a bucket of their own, for the commands of the documentation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import Stack, beside


@pytest.fixture(scope="package")
def told(ray_stack: Stack, new_home: Callable[[], Path]) -> Iterator[dict[str, str]]:
    """The environment of somebody who follows the documentation."""
    own = Stack(ray_stack.home, ray_stack.isolated())
    home = new_home()
    with beside(own, home, "worker"):
        programs = [str(Path(sys.executable).parent), str(home / "bin"), os.environ["PATH"]]
        yield {
            **os.environ,
            "PATH": os.pathsep.join(programs),
            "PERDURE_HOME": str(home),
            "TEMPORAL_ADDRESS": own.settings.temporal.address,
            "HOME": str(home),
            "NO_COLOR": "1",
        }
