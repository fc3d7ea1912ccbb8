"""reStructuredText: headings, paragraphs, lists, code, tables and directives by a light reader with character offsets.

Roles and links are reduced to their text. Directives that describe an object (`.. function:: open(file)`) become a
heading with its name and a paragraph with its signature, so that a search for the name finds the description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.parse.decode import read_text
from pipeline.parse.parsed import Parsed, Share, clean, pieces
from pipeline.parse.tables import line as table_line
from pipeline.types import Element, ElementKind

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}\s*$")
_DIRECTIVE = re.compile(r"\.\.\s+(?:\|[^|\n]{1,100}\|\s+)?([A-Za-z][\w:+.-]{0,60})\s*::(?:\s+(\S.*))?$")
_OBJECT = re.compile(
    r"(?:(?:py|c|cpp|js|rst|std):)?(?:(?:co|coroutine|abstract|static|class|decorator|awaitable|async)*(?:function|method)|class|exception|data|"
    r"attribute|property|decorator|describe|object|option|cmdoption|program|envvar|macro|member|var|type|struct|enum|enumerator|"
    r"union|opcode|pdbcommand|2to3fixer|confval|directive|role|term)$"
)
_CODE = {"code", "code-block", "sourcecode", "parsed-literal", "productionlist", "doctest", "testcode", "testsetup", "testoutput",
         "highlight-block", "math", "prompt"}  # fmt: skip
#: Directives without text, or with text for machines.
_SILENT = {"toctree", "index", "contents", "highlight", "currentmodule", "py:currentmodule", "tabularcolumns", "include",
           "literalinclude", "raw", "sectionauthor", "moduleauthor", "codeauthor", "image", "meta", "default-domain",
           "highlightlang", "program"}  # fmt: skip
_LABELS = {"versionadded": "New in version", "versionchanged": "Changed in version", "deprecated": "Deprecated since version",
           "deprecated-removed": "Deprecated since version", "versionremoved": "Removed in version"}  # fmt: skip
_OPTION = re.compile(r"\s*:[A-Za-z][\w -]{0,60}:(?:\s|$)")
_ITEM = re.compile(r"(?:[*+•-]|\(?(?:\d{1,5}|#|[A-Za-z])[.)])(?:\s+|$)")
_BULLET = re.compile(r"[*+•-]\s+(?=\S)")
_GRID = re.compile(r"\+[-=+]{3,}\+\s*$")
_SIMPLE = re.compile(r"=+(?:\s+=+)+\s*$")
_EXPLICIT = re.compile(r"\.\.(?:\s|$)")
_FOOTNOTE = re.compile(r"\.\.\s+\[[^\]\n]{1,80}\]\s+(?=\S)")

_ROLE = re.compile(r":[A-Za-z][\w:+.-]{0,40}:`([^`]{1,600})`")
_LITERAL = re.compile(r"``([^`\n]{1,600})``")
_REFERENCE = re.compile(r"`([^`]{1,600})`_{0,2}")
_TARGET = re.compile(r"(?<!\s)\s*<[^<>]{1,500}>$")
_SUBSTITUTION = re.compile(r"\|([^|\s][^|\n]{0,80})\|_{0,2}")


def parse_rst(path: Path, name: str) -> Parsed:
    """Elements of the reStructuredText file at `path`."""
    share = Share()
    return Parsed("", rst_elements(read_text(path), share), share)


def rst_elements(text: str, share: Share | None = None) -> Iterator[Element]:
    """Elements of `text` in order."""
    return _Reader(text, share or Share()).elements()


@dataclass(slots=True)
class _Line:
    start: int
    end: int  #: without the line end and trailing space
    indent: int
    text: str  #: without indent, line end and trailing space


@dataclass(slots=True)
class _Reader:
    """A reader over the lines of a text; indentation alone delimits blocks, so nothing recurses."""

    source: str
    share: Share
    lines: list[_Line] = field(default_factory=list)
    styles: list[tuple[str, bool]] = field(default_factory=list)  #: adornments by level: character, overlined
    section: tuple[int, str] | None = None  #: level and text of the open section
    objects: list[tuple[int, int, str]] = field(default_factory=list)  #: open object directives: indent of body, level, name
    stale: bool = False  #: an object has ended: its heading must not apply to the following text

    def elements(self) -> Iterator[Element]:
        """Read the text from its first line to its last."""
        position = 0
        for m in re.finditer(r"[^\n]*\n|[^\n]+$", self.source):
            raw = m.group().rstrip()
            body = raw.lstrip()
            indent = len(raw[: len(raw) - len(body)].expandtabs())
            self.lines.append(_Line(m.start() + len(raw) - len(body), m.start() + len(raw), indent, body))
        self.lines.append(_Line(len(self.source), len(self.source), 0, ""))
        while position < len(self.lines):
            self.share.count(position, len(self.lines))
            position, found = self._block(position)
            for element in found:
                if self.stale and element.kind is not ElementKind.HEADING:
                    self.stale = False
                    yield from self._heading_again()
                yield element

    def _block(self, at: int) -> tuple[int, list[Element]]:
        """The elements of the block that begins at line `at`, and the line after it."""
        line = self.lines[at]
        if not line.text:
            return at + 1, []
        while self.objects and line.indent < self.objects[-1][0]:
            self.objects.pop()
            self.stale = True
        if (heading := self._heading(at)) is not None:
            return heading
        if _EXPLICIT.match(line.text):
            return self._explicit(at)
        if _GRID.match(line.text) or _SIMPLE.match(line.text):
            return self._table(at)
        if _ADORNMENT.match(line.text) and not self.lines[at + 1].text:  # a transition
            return at + 1, []
        if line.text.startswith(">>>"):
            end = self._paragraph_end(at)
            return end, self._code(at, end)
        return self._paragraph(at)

    def _heading(self, at: int) -> tuple[int, list[Element]] | None:
        line, below = self.lines[at], self.lines[at + 1] if at + 1 < len(self.lines) else None
        if line.indent or below is None:
            return None
        over = bool(_ADORNMENT.match(line.text)) and at + 2 < len(self.lines) and line.text[0] == self.lines[at + 2].text[:1]
        title, under = (below, self.lines[at + 2]) if over else (line, below)
        is_heading = (
            title.text and not under.indent and _ADORNMENT.match(under.text) and not (not over and _ADORNMENT.match(title.text))
        )
        if not is_heading or len(under.text) < min(len(title.text), 4) or (over and _SIMPLE.match(line.text)):
            return None
        style = (under.text[0], over)
        if style not in self.styles:
            self.styles.append(style)
        level = self.styles.index(style) + 1
        text = _flat(title.text)
        self.section, self.objects, self.stale = (level, text), [], False
        return at + (3 if over else 2), self._of(text, title.start, title.end, ElementKind.HEADING, level)

    def _heading_again(self) -> Iterator[Element]:
        """The heading for the text after an object's end; without a span, because it is a repetition."""
        above = self.objects[-1][1:] if self.objects else self.section
        if above is not None and (text := clean(above[1])):
            yield Element(text, ElementKind.HEADING, above[0])

    def _explicit(self, at: int) -> tuple[int, list[Element]]:
        """A directive, footnote, target or comment."""
        line = self.lines[at]
        if (note := _FOOTNOTE.match(line.text)) is not None:
            end = self._paragraph_end(at)
            return end, self._text(at, end, ElementKind.PARAGRAPH, skip=note.end())
        found = _DIRECTIVE.match(line.text)
        if found is None:  # a comment or a target, with its indented lines
            return self._indented_end(at + 1, line.indent), []
        name, argument = found.group(1), found.group(2) or ""
        if name.endswith("module"):  # its only line of text is the synopsis
            end = self._indented_end(at + 1, line.indent)
            synopsis = (n for n in self.lines[at + 1 : end] if n.text.startswith(":synopsis:"))
            return end, [e for n in synopsis for e in self._of(_flat(n.text[10:]), n.start + 10, n.end)]
        body = at + 1
        while body < len(self.lines) and self.lines[body].text and self.lines[body].indent > line.indent:
            if _OPTION.match(self.lines[body].text):
                body += 1
            elif _OBJECT.match(name):  # one object may have several signatures
                argument += "\n" + self.lines[body].text
                body += 1
            else:
                break
        if name == "image" and "|" not in line.text[:4]:  # the words that describe it are text
            told = (n for n in self.lines[at + 1 : body] if n.text.startswith(":alt:"))
            return body, [e for n in told for e in self._of(_flat(n.text[5:]), n.start + 5, n.end)]
        if name in _SILENT or "|" in line.text[:4]:
            return self._indented_end(at + 1, line.indent), []
        if name in _CODE:
            end = self._indented_end(body, line.indent)
            return end, self._code(body, end)
        if _OBJECT.match(name) and argument:
            return body, self._object(at, body, argument)
        if not argument:
            return body, []
        start = line.start + found.start(2)
        label = _LABELS.get(name, "")
        end = line.end
        # The lines directly below the argument belong to its paragraph.
        last = body
        while name in _LABELS and last < len(self.lines) and self.lines[last].text and self.lines[last].indent > line.indent:
            argument, end, last = f"{argument} {self.lines[last].text}", self.lines[last].end, last + 1
        return max(body, last), self._of(f"{label} {_flat(argument)}", start, end)

    def _object(self, at: int, body: int, argument: str) -> list[Element]:
        line = self.lines[at]
        text = "\n".join(_flat(part) for part in argument.split("\n"))
        name = re.split(r"[(\[,:=\n]|\s-", text.replace("\\", ""), maxsplit=1)[0].strip() or text.split("\n")[0]
        first = next((n for n in self.lines[body : body + 50] if n.text), line)
        section = self.section[0] if self.section else 0
        level = (self.objects[-1][1] if self.objects else section) + 1
        self.stale = False
        if first.indent > line.indent:
            self.objects.append((first.indent, level, name))
        else:
            self.stale = True
        start = line.start + line.text.index("::") + 2
        end = max(n.end for n in self.lines[at:body])
        return [
            *self._of(name[:120], start, line.end, ElementKind.HEADING, level),
            *([] if text == name else self._of(text, start, end)),
        ]

    def _paragraph(self, at: int) -> tuple[int, list[Element]]:
        end = self._paragraph_end(at)
        first, last = self.lines[at], self.lines[end - 1]
        kind = ElementKind.LIST_ITEM if _ITEM.match(first.text) else ElementKind.PARAGRAPH
        bullet = _BULLET.match(first.text)
        elements = self._text(at, end, kind, skip=bullet.end() if bullet else 0)
        if last.text.endswith("::"):
            below = end
            while below < len(self.lines) and not self.lines[below].text:
                below += 1
            if below < len(self.lines) and self.lines[below].indent > first.indent:
                stop = self._indented_end(below, first.indent)
                return stop, [*elements, *self._code(below, stop)]
        return end, elements

    def _paragraph_end(self, at: int) -> int:
        """The line after the paragraph that begins at `at`: a blank line, a new list item, or an explicit block ends it."""
        end = at + 1
        while end < len(self.lines) and self.lines[end].text:
            line = self.lines[end]
            if _EXPLICIT.match(line.text) or (
                _ITEM.match(line.text) and line.indent <= self.lines[at].indent and _ITEM.match(self.lines[at].text)
            ):
                break
            if end + 1 < len(self.lines) and not line.indent and self._heading(end) is not None:
                break
            end += 1
        return end

    def _indented_end(self, at: int, indent: int) -> int:
        """The line after the block of lines from `at` that are blank or indented by more than `indent`."""
        while at < len(self.lines) and (not self.lines[at].text or self.lines[at].indent > indent):
            at += 1
        return at

    def _text(self, at: int, end: int, kind: ElementKind, skip: int = 0) -> list[Element]:
        lines = self.lines[at:end]
        text = "\n".join(line.text for line in lines)[skip:]
        return self._of(_flat(re.sub(r":{2}$", ":", text)), lines[0].start + skip, lines[-1].end, kind)

    def _code(self, at: int, end: int) -> list[Element]:
        while at < end and not self.lines[at].text:
            at += 1
        lines = self.lines[at:end]
        while lines and not lines[-1].text:
            lines = lines[:-1]
        if not lines:
            return []
        margin = min(line.indent for line in lines if line.text)
        text = "\n".join(" " * (line.indent - margin) + line.text if line.text else "" for line in lines)
        return self._of(text, lines[0].start, lines[-1].end, ElementKind.CODE)

    def _table(self, at: int) -> tuple[int, list[Element]]:
        """A grid or simple table: one element for each line of text in it."""
        grid = self.lines[at].text.startswith("+")
        end, borders = at, 0
        while end < len(self.lines) and (self.lines[end].text or (not grid and borders < 2)):
            borders += bool(_SIMPLE.match(self.lines[end].text))
            end += 1
            if not grid and borders >= 3:
                break
        rows: list[Element] = []
        header = ""
        for number, line in enumerate(self.lines[at:end]):
            if _SIMPLE.match(line.text) or _ADORNMENT.match(line.text) or re.match(r"\+[-=+]+", line.text):
                is_head_end = ("=" in line.text) if grid else number > 1 and borders >= 3
                if is_head_end and not header and 0 < len(rows) <= 3 and number < end - at - 1:
                    header = " ".join(row.text for row in rows)
                    rows = []
                continue
            flat = _flat(line.text.removeprefix("|").removesuffix("|") if grid else line.text)
            cells = [cell.strip() for cell in flat.split("|")] if grid else re.split(r"\s{2,}", flat)
            text = table_line(cells)
            if text:
                rows += self._of(text, line.start, line.end, ElementKind.TABLE_ROW, header=header)
        return max(end, at + 1), rows or ([Element(clean(header), ElementKind.TABLE_ROW)] if clean(header) else [])

    def _of(
        self, text: str, start: int, end: int, kind: ElementKind = ElementKind.PARAGRAPH, level: int = 0, header: str = ""
    ) -> list[Element]:
        text, header = clean(text, strip=kind is not ElementKind.CODE), clean(header)
        return [
            Element(part, kind, level, char_start=start, char_end=end, header=header)
            for first, last in pieces(text)
            if (part := text[first:last].rstrip()).strip()
        ]


def _flat(text: str) -> str:
    """`text` with roles, literals, links and substitutions reduced to their text."""
    if "`" in text:
        text = _ROLE.sub(lambda m: _visible(m.group(1)), text)
        text = _LITERAL.sub(lambda m: m.group(1), text)
        text = _REFERENCE.sub(lambda m: _visible(m.group(1)), text)
    return _SUBSTITUTION.sub(lambda m: m.group(1), text) if "|" in text else text


def _visible(content: str) -> str:
    """The visible part of a role's content: `text` of `text <target>`, `c` of `~a.b.c`."""
    if content.startswith("~"):
        return content[1:].rsplit(".", 1)[-1]
    return (_TARGET.sub("", content) or content).removeprefix("!")
