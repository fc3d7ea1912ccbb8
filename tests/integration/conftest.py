"""Services and documents of the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.services import Server, embed_server, qdrant_stand_in, redis_server


@pytest.fixture
def redis(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Server]:
    """A Redis of this test's own."""
    server = redis_server(tmp_path / "redis")
    if server is None:
        unavailable("no redis-server on this machine")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def qdrant(tmp_path: Path) -> Iterator[Server]:
    """The stand-in for a Qdrant server, of this test's own."""
    server = qdrant_stand_in(tmp_path / "qdrant")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Server]:
    """A model server of this test's own."""
    server = embed_server(tmp_path / "model")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A small folder of text documents about different things."""
    folder = tmp_path / "documents"
    (folder / "garden").mkdir(parents=True)
    (folder / "tomatoes.md").write_text(
        "# Tomatoes\n\n"
        + "Tomatoes want sun, shelter from the wind and warm soil with a lot of compost in it. " * 5
        + "\n\n## Watering\n\n"
        + "Water them at the root in the morning, never on the leaves, and more when the fruit swells. " * 5
        + "\n\n## Harvest\n\n"
        + "Pick them when they are red all over; green ones ripen indoors beside an apple. " * 5
        + "\n"
    )
    (folder / "garden" / "bees.txt").write_text("Bees visit flowers for nectar.\n\nA hive holds tens of thousands of bees.\n")
    (folder / "garden" / "tools.csv").write_text("tool,price\nspade,20\nrake,12\nwheelbarrow,75\n")
    (folder / "page.html").write_text(
        "<html><head><title>Compost</title></head><body><h1>Compost</h1><p>Turn the heap every two weeks.</p></body></html>"
    )
    return folder
