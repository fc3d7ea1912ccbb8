"""A page that has been read: its lines and tables in reading order, and what else is on it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.parse.pdf.continued import Rest
from pipeline.parse.pdf.grids import Table
from pipeline.parse.pdf.lines import Line
from pipeline.types import Element


@dataclass(frozen=True, slots=True)
class Page:
    """A page without pdfium's objects."""

    number: int  #: 1-based
    items: list[Line | Table]  #: in reading order
    notes: list[Element]  #: fields and comments
    bottom: float = 0.0  #: edges of the page, in points
    top: float = 0.0
    rest: Rest | None = None  #: of the table that ends the page before it
    without_text: str = ""  #: why its text cannot be read; empty where it has text, or is blank

    @property
    def lines(self) -> list[Line]:
        """The lines outside tables."""
        return [item for item in self.items if isinstance(item, Line)]
