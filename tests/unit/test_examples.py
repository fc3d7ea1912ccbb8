"""The example documents and the list of what the demo installs are up to date."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = REPOSITORY / "examples" / "documents"
LIMITS = Limits(1 << 30, 1 << 30, 1000)


def names(file: str) -> set[str]:
    """Packages of a list of requirements."""
    lines = (REPOSITORY / file).read_text("utf-8").splitlines()
    return {canonicalize_name(re.split("[=@ ]", line)[0]) for line in lines if line and not line.startswith("#")}


def required(name: str, extras: frozenset[str], found: set[tuple[str, frozenset[str]]]) -> None:
    """Add what a package requires here, and what that requires."""
    if (name, extras) in found:
        return
    found.add((name, extras))
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:  # a marker of this machine leaves it out
        return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            required(canonicalize_name(requirement.name), frozenset(requirement.extras), found)


def words(folder: Path) -> dict[str, list[str]]:
    """The elements' texts of each document."""
    found = {}
    for path in sorted(folder.iterdir()):
        media_type = inspect(path, path.name, LIMITS)
        found[path.name] = [element.text for element in parse(path, path.name, media_type).elements]
    return found


def test_the_example_documents_are_those_of_their_script(tmp_path: Path) -> None:
    subprocess.run([sys.executable, REPOSITORY / "examples" / "make_documents.py", tmp_path], check=True, capture_output=True)
    made = words(tmp_path)
    assert len(made) == 7
    assert words(DOCUMENTS) == made


def test_the_demo_installs_tested_versions_of_what_kb_ingest_requires() -> None:
    demo = names("demo-packages.txt")
    assert demo <= names("constraints.txt")
    found: set[tuple[str, frozenset[str]]] = set()
    required("kb-ingest", frozenset({"offline"}), found)
    assert demo <= {name for name, _ in found}
    # Nothing that torch brings with its own requirements, which differ from build to build.
    with_torch: set[tuple[str, frozenset[str]]] = set()
    required("torch", frozenset(), with_torch)
    assert not demo & {name for name, _ in with_torch}
