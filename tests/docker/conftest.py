"""The engine and the image of the Docker tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest

from tests.docker import stack


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]) -> str:
    """The image of this working tree, built as a user builds it."""
    if not stack.engine_answers():
        unavailable("no container engine with compose v2 answers")
    stack.build_image(tmp_path_factory.mktemp("image"))
    return stack.IMAGE
