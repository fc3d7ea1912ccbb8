"""Markdown: block structure by markdown-it, with the character offsets of every block.

Only the block rules run. Inline rules are left out because they take quadratic time on hostile input; without them, the
offsets of a block stay exact. Links and images are reduced to their text, and blocks of HTML are read as HTML.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.parse.decode import read_text
from pipeline.parse.html import html_parsed
from pipeline.parse.markdown_inline import shown_words
from pipeline.parse.parsed import Losses, Parsed, Share, clean, pieces
from pipeline.types import Element, ElementKind, LossKind

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: Longer texts are parsed in parts that end before a heading, so that memory use depends on the part and not on the file.
WINDOW_CHARS = 500_000

_ATX = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
#: Lines of markup alone: rules, underlines of headings, table delimiters, fences, quote marks, bare list marks.
_MARKUP_LINE = re.compile(r"[\s>*+\-_=|:#`~.]*$|\s*(?:```|~~~).*$|[\s>]*\d{1,9}[.)]\s*$")
_FRONT_MATTER = re.compile(
    r"---[ \t]*\n(?P<yaml>.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)|\+\+\+[ \t]*\n(?P<toml>.{0,20000}?)\n\+\+\+[ \t]*(?:\n|$)",
    re.S,
)
#: A line of the front matter with a value on it; lists and nested values are left to the text.
_FIELD = re.compile(r"([A-Za-z][\w-]{0,60})[ \t]{0,20}[:=][ \t]{0,20}(\S.{0,1000})")
#: A picture inside the text that nothing describes.
_SILENT_PICTURE = re.compile(r"!\[\s{0,20}\]\(\s{0,9}<?data:image/", re.I)
_TABLE_TAG = re.compile(r"</?table\b", re.I)
#: The most fields that are kept of a document.
MAX_FIELDS = 50


def parse_markdown(path: Path, name: str) -> Parsed:
    """Headings, paragraphs, list items, code and table rows of the Markdown file at `path`."""
    text = read_text(path)
    front = _FRONT_MATTER.match(text)
    fields = _fields(front) if front else {}
    share, losses = Share(), Losses()
    title = clean(fields.get("title", ""))
    return Parsed(title, markdown_elements(text, front, share, losses), share, losses, fields)


def _fields(front: re.Match[str]) -> dict[str, str]:
    """The plain values of the front matter, by their names."""
    found = filter(None, map(_FIELD.match, front.group(front.lastgroup or 0).split("\n")))
    return {field.group(1).lower(): clean(_unquoted(field.group(2).strip())) for field in itertools.islice(found, MAX_FIELDS)}


def _unquoted(value: str) -> str:
    """A value of the front matter without the quotes around it."""
    return value[1:-1] if len(value) > 2 and value[0] == value[-1] and value[0] in "'\"" else value


def markdown_elements(
    text: str, front: re.Match[str] | None = None, share: Share | None = None, losses: Losses | None = None
) -> Iterator[Element]:
    """Elements of `text`; `front` is the match of its front matter, which becomes one paragraph."""
    share, losses = share or Share(), losses or Losses()
    start = 0
    if front:
        name = front.lastgroup or 0
        yield from _emit(front.group(name), front.start(name), front.end(name), front.group(name))
        start = front.end()
    while start < len(text):
        end = _window_end(text, start)
        share.count(start, len(text))
        yield from _Blocks(text[start:end], start, losses).elements()
        start = end
    if pictures := len(_SILENT_PICTURE.findall(text)):
        losses.add(LossKind.PICTURE, detail="inside the document, without alternative text", count=pictures)


def _window_end(text: str, start: int) -> int:
    """The end of the window that begins at `start`: before a heading outside code, else at a blank line, else anywhere."""
    limit = start + WINDOW_CHARS
    if limit >= len(text):
        return len(text)
    position, heading, blank, fence = start, 0, 0, ""
    while position < limit:
        stop = text.find("\n", position)
        stop = len(text) if stop < 0 else stop + 1
        line = text[position : min(stop, position + 80)]
        if (mark := _FENCE.match(line)) is not None and (not fence or mark.group(1).startswith(fence)):
            fence = "" if fence else mark.group(1)[:3]
        elif not fence and position > start:
            if _ATX.match(line):
                heading = position
            elif line.isspace():
                blank = stop
        position = stop
    return heading or blank or min(position, limit)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # `reference` is quadratic in unclosed brackets, `inline` in many more constructs.
    return MarkdownIt("commonmark").enable("table").disable(["reference", "inline", "text_join"])


@dataclass(slots=True)
class _Blocks:
    """One window of Markdown that is turned into elements."""

    text: str
    base: int  #: offset of the window in the document
    losses: Losses  #: of the document
    lines: list[int] = field(default_factory=list)  #: start of every line, and the end of the last one

    def elements(self) -> Iterator[Element]:
        """Elements of the window in order; lines without a token (nested too deeply) become paragraphs."""
        self.lines = [0, *(m.end() for m in re.finditer(r"\n", self.text))]
        if self.lines[-1] != len(self.text):
            self.lines.append(len(self.text))
        reached = 0
        for first, last, found in self._tokens():
            yield from self._unclaimed(reached, first)
            yield from found
            reached = max(reached, last)
        yield from self._unclaimed(reached, len(self.lines) - 1)

    def _tokens(self) -> Iterator[tuple[int, int, list[Element]]]:
        """For every token with text: its first line, the line after its last, and its elements."""
        marks: list[str] = []  # of the open list items, until text uses them
        cells: list[str] | None = None
        header, rows, level, in_head = "", 0, 0, False
        lines = (0, 0)
        for token in _joined(_parser().parse(self.text)):
            if token.map:
                lines = (token.map[0], token.map[1])
            match token.type:
                case "list_item_open":
                    marks.append(f"{token.info}{token.markup} " if token.info else "")
                case "list_item_close":
                    marks.pop()
                case "heading_open" | "heading_close":
                    level = int(token.tag[1:]) if token.type == "heading_open" else 0
                case "thead_open" | "thead_close":
                    in_head = token.type == "thead_open"
                case "tr_open":
                    cells = []
                case "tr_close":
                    row, cells = " | ".join(cells or ()), None
                    if in_head:
                        header, head_lines, rows = row if row.strip(" |") else "", lines, 0
                        yield *lines, []
                    elif row.strip(" |"):
                        rows += 1
                        yield self._claim(lines, row, ElementKind.TABLE_ROW, header=header)
                case "table_close" if header and not rows:
                    yield self._claim(head_lines, header, ElementKind.TABLE_ROW)
                case "inline" if cells is not None:
                    cells.append(shown_words(token.content).replace("\n", " "))
                case "inline" if level:
                    yield self._claim(lines, shown_words(token.content).replace("\n", " "), ElementKind.HEADING, level)
                case "inline":
                    text = (marks[-1] if marks else "") + shown_words(token.content)
                    if marks:
                        marks[-1] = ""
                    yield self._claim(lines, text, ElementKind.LIST_ITEM if marks else ElementKind.PARAGRAPH)
                case "fence" | "code_block":
                    yield self._claim(lines, token.content, ElementKind.CODE)
                case "html_block":
                    yield self._html(lines, token.content)

    def _html(self, lines: tuple[int, int], content: str) -> tuple[int, int, list[Element]]:
        """A block of HTML; its elements share the span of the block."""
        start, end = (self.base + self.lines[min(at, len(self.lines) - 1)] for at in lines)
        parsed = html_parsed(content)
        for loss in parsed.losses.all():
            if loss.kind is LossKind.PICTURE:  # a script fills a page, but no block
                self.losses.add(loss.kind, loss.place, loss.detail, loss.count)
        return *lines, [replace(element, char_start=start, char_end=end) for element in parsed.elements]

    def _claim(
        self, lines: tuple[int, int], text: str, kind: ElementKind, level: int = 0, header: str = ""
    ) -> tuple[int, int, list[Element]]:
        first, last = lines
        start, end = self.lines[first], self.lines[min(last, len(self.lines) - 1)]
        return first, last, list(_emit(text, self.base + start, self.base + end, self.text[start:end], kind, level, header))

    def _unclaimed(self, first: int, last: int) -> Iterator[Element]:
        """Paragraphs of the lines from `first` to `last` (exclusive), without markup lines."""
        block: tuple[int, int] | None = None
        for line in range(first, last):
            if not _MARKUP_LINE.match(self.text, self.lines[line], self.lines[line + 1]):
                block = (block[0] if block else line, line + 1)
            elif block:
                yield from self._plain(*block)
                block = None
        if block:
            yield from self._plain(*block)

    def _plain(self, first: int, last: int) -> Iterator[Element]:
        text = self.text[self.lines[first] : self.lines[last]]
        text = "\n".join(line.lstrip(" \t>") for line in text.split("\n"))
        yield from self._claim((first, last), shown_words(text), ElementKind.PARAGRAPH)[2]


def _joined(tokens: list[Token]) -> Iterator[Token]:
    """The tokens, with blocks of HTML as one where a table is open: a blank line ends a block, but no table."""
    blocks: list[Token] = []
    depth = 0
    for token in tokens:
        if blocks and (token.type != "html_block" or depth <= 0):
            yield _one(blocks)
            blocks, depth = [], 0
        if token.type == "html_block":
            blocks.append(token)
            depth += sum(-1 if tag.startswith("</") else 1 for tag in _TABLE_TAG.findall(token.content))
        else:
            yield token
    if blocks:
        yield _one(blocks)


def _one(blocks: list[Token]) -> Token:
    first, last = blocks[0].map, blocks[-1].map
    blocks[0].content = "".join(block.content for block in blocks)
    blocks[0].map = [first[0], last[1]] if first and last else first
    return blocks[0]


def _emit(
    text: str, start: int, end: int, source: str, kind: ElementKind = ElementKind.PARAGRAPH, level: int = 0, header: str = ""
) -> Iterator[Element]:
    """`text` as elements with the span from `start` to `end`, which holds `source`; long texts in pieces with own spans."""
    text = clean(text, strip=kind is not ElementKind.CODE)
    if not text.strip():
        return
    if kind is ElementKind.CODE:
        text = text.rstrip()
    start += len(source) - len(source.lstrip())
    end -= len(source) - len(source.rstrip())
    parts = list(pieces(text))
    cursor = 0
    for first, last in parts:
        part = clean(text[first:last], strip=kind is not ElementKind.CODE)
        if not part.strip():
            continue
        span = start, end
        if len(parts) > 1 and (found := source.find(part[:60], cursor)) >= 0:
            cursor = min(found + len(part), len(source))
            base = end - len(source.rstrip())
            span = base + found, base + cursor
        yield Element(part, kind, level, char_start=span[0], char_end=span[1], header=header)
