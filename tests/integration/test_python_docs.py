"""Real documents: pages of Python's own documentation, as Debian ships it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.services import Cli

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGES = Path("/usr/share/doc/python3.11/html")
WANTED = ("library/functions.html", "library/io.html", "library/csv.html", "tutorial/inputoutput.html", "library/pathlib.html")


def test_pages_and_their_sources_are_found(data_dir: Path, unavailable: Callable[[str], NoReturn]) -> None:
    if not PAGES.is_dir():
        unavailable("no python3-doc on this machine")
    cli = Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    pages = [str(PAGES / name) for name in WANTED]
    sources = [str(PAGES / "_sources" / name.replace(".html", ".rst.txt")) for name in WANTED]
    first = json.loads(cli.run("load", *pages, *sources, "--json").stdout)
    assert (first["indexed"], first["quarantined"]) == (len(pages) + len(sources), 0)
    second = json.loads(cli.run("load", *pages, *sources, "--json").stdout)
    assert (second["unchanged"], second["chunks"]) == (len(pages) + len(sources), 0)
    assert json.loads(cli.run("verify", "--json").stdout)["actual_points"] == first["chunks"]
    hits = json.loads(cli.run("search", "how do I open a file for writing", "--limit", "5", "--json").stdout)
    names = {Path(hit["uri"]).name.partition(".")[0] for hit in hits}
    assert names & {"functions", "inputoutput", "io"}
    by_heading = json.loads(cli.run("search", "write text to a path", "--limit", "3", "--json").stdout)
    assert any("Path.write_text" in hit["heading_path"] for hit in by_heading)
