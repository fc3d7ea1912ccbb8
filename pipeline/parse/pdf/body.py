"""Elements of a PDF: headings, paragraphs, items of lists and rows of tables, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, groupby, zip_longest

from pipeline.errors import DocumentError
from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.parsed import Losses, pieces, squeeze
from pipeline.parse.pdf.continued import CAPTION, is_above, last_table, lines_above
from pipeline.parse.pdf.grids import MAX_HEAD_ROWS, Table
from pipeline.parse.pdf.headings import Headings
from pipeline.parse.pdf.lines import Line
from pipeline.parse.pdf.pages import Page
from pipeline.parse.pdf.paragraphs import BULLET, blocks, joined
from pipeline.parse.pdf.running import Running
from pipeline.parse.tables import Cell, Row, filled, line, table_elements
from pipeline.text import plural
from pipeline.types import Element, ElementKind, LossKind, Reason

#: Horizontal distance at which the tables of two pages are one, in points.
SAME_TABLE = 12.0

_LEADER = re.compile(r"\s?\.(?:\s?\.){4,}\s?")


@dataclass(slots=True)
class Body:
    """What the elements of a document have in common."""

    headings: Headings
    words: Words
    running: Running
    losses: Losses
    hint: str = ""  #: what to do so that pages without text are read
    #: The table at the end of the last page, its header, and the text of its last row, column by column.
    _open: tuple[Table, str, list[str]] | None = None

    def elements(self, pages: Iterator[Page]) -> Iterator[Element]:
        """The elements of all pages. Raises DocumentError at the end where there are none: NEEDS_OCR, EMPTY_TEXT."""
        count = 0
        unread: list[Page] = []
        some = False
        for page in pages:
            count += 1
            unread += [page] if page.without_text else []
            for element in chain(self._of_page(page), page.notes):
                some = True
                yield element
        yield from self.running.elements()
        if not some:
            why = self.hint if unread else self.losses.told_of(LossKind.PAGE_WITHOUT_TEXT, LossKind.LOW_CONFIDENCE)
            detail = f"no text on {plural(count, 'page')}{'; ' if why else ''}{why}"
            raise DocumentError(Reason.NEEDS_OCR if unread else Reason.EMPTY_TEXT, detail)
        for page in unread:
            self.losses.add(LossKind.PAGE_WITHOUT_TEXT, f"page {page.number}", page.without_text)

    def _of_page(self, page: Page) -> Iterator[Element]:
        sides = page.bottom, page.top
        whole = page.rest.among(page.items, *sides) if page.rest and self._open and self._open[1] else page.items
        parts: list[Table | list[list[Line]]] = []
        for is_table, items in groupby(whole, key=lambda item: isinstance(item, Table)):
            if is_table:
                parts += [item for item in items if isinstance(item, Table)]
            else:
                parts.append(list(blocks([item for item in items if isinstance(item, Line)])))
        if not all(is_above(item, *sides) for item in lines_above(whole)):
            self._open = None
        last = last_table(whole, *sides)
        for at, part in enumerate(parts):
            if not isinstance(part, Table):
                yield from self._of_blocks(part, page.number)
                continue
            below = parts[at + 1] if at + 1 < len(parts) else None
            # A caption stands above its table, where rows are cut into chunks.
            if isinstance(below, list) and below and CAPTION.match(joined(below[0])) and not self._has_caption(parts, at):
                yield from self._of_blocks([below.pop(0)], page.number)
            yield from self._of_table(part, page.number)
            if part is not last:
                self._open = None
        if last is None and whole:
            self._open = None

    @staticmethod
    def _has_caption(parts: Sequence[Table | list[list[Line]]], at: int) -> bool:
        above = parts[at - 1] if at else None
        return isinstance(above, list) and bool(above) and CAPTION.match(joined(above[-1])) is not None

    def _of_blocks(self, found: Sequence[list[Line]], page: int) -> Iterator[Element]:
        """Headings, paragraphs and items of lists."""
        for block, below in zip_longest(found, found[1:]):
            text = joined(block)
            text = squeeze(self.words.undivided(text) if DIVIDED in text else text)
            if "..." in text or ". ." in text:
                text = _LEADER.sub(" … ", text)
            level = self.headings.level(block, text, page, below)
            if level:
                self.running.seen(text)
            for first, last in pieces(text):
                if part := text[first:last].strip():
                    kind = ElementKind.LIST_ITEM if BULLET.match(part) else ElementKind.PARAGRAPH
                    yield Element(part, ElementKind.HEADING if level else kind, level, page=page)

    def _of_table(self, table: Table, page: int) -> Iterator[Element]:
        """The rows of a table; one that goes on from the last page has the header of its first rows."""
        rows = [Row([self._cell(cell) for cell in row.cells], row.heads) for row in table.rows]
        header = ""
        if self._open is not None and _goes_on(self._open[0], table):
            _, header, last = self._open
            own = next((element.header for element in table_elements(rows, page)), "")
            if own != header and own and (table.names or _shares(own, header)):  # another table
                header, last = "", []
            rows = _carried(rows, last)
            if own == header:  # repeated, in one row or in several
                header = ""
            elif header and line([cell.text for cell in rows[0].cells]) == header:
                rows = rows[1:]
            if header:
                rows = [replace(row, heads=False) for row in rows]
        texts = [cells for cells, _ in filled(rows) if any(cells)]
        for element in table_elements(rows, page, marked=bool(header)):
            element = replace(element, header=header) if header else element
            self._open = table, element.header, texts[-1]
            yield element

    def _cell(self, cell: Cell) -> Cell:
        text = cell.text.replace(f"{DIVIDED}\n", DIVIDED).replace("\n", " ")
        return replace(cell, text=squeeze(self.words.undivided(text) if DIVIDED in text else text))


def _carried(rows: Sequence[Row], above: Sequence[str]) -> list[Row]:
    """Rows after a row of the page before, `above`; an empty cell at the top that spans rows goes on with the cell above it."""
    found = list(rows)
    for at, row in enumerate(rows[: MAX_HEAD_ROWS + 1]):
        if any(_is_open(cell) for cell in row.cells):
            places = accumulate((cell.columns for cell in row.cells), initial=0)
            cells = [
                replace(cell, text=above[place]) if _is_open(cell) and place < len(above) else cell
                for cell, place in zip(row.cells, places, strict=False)
            ]
            found[at] = Row(cells, row.heads)
            break
    return found


def _is_open(cell: Cell) -> bool:
    return not cell.text and cell.rows > 1


def _shares(own: str, header: str) -> bool:
    """Whether a row has some of the names of a header in their places: it names columns, too."""
    return any(name and name == other for name, other in zip(own.split(" | "), header.split(" | "), strict=False))


def _goes_on(before: Table, table: Table) -> bool:
    return (
        before.columns == table.columns
        and abs(before.left - table.left) < SAME_TABLE
        and abs(before.right - table.right) < 3 * SAME_TABLE
    )
