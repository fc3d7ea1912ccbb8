"""A folder of pages, each about a subject of its own: half of them in a folder inside it."""

from __future__ import annotations

from pathlib import Path

PAGES = 12


def page(number: int) -> str:
    """The text of a page."""
    return f"# Page {number}\n\nThis page is about subject{number} and nothing else.\n"


def make_pages(folder: Path) -> Path:
    """Make the folder with its pages; return it."""
    (folder / "sub").mkdir(parents=True)
    for number in range(PAGES):
        (folder / ("sub" if number % 2 else ".") / f"{number}.md").write_text(page(number))
    return folder
