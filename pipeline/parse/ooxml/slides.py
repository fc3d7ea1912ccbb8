"""PowerPoint files: every slide is a page under its title, with its shapes, notes and comments."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.ooxml.drawing import graphic, lines, picture, said
from pipeline.parse.ooxml.package import A, Node, P, Package, R, children
from pipeline.parse.parsed import Losses, Parsed, Share, headed, parts, squeeze
from pipeline.parse.second_reader import second_reading
from pipeline.types import Element, ElementKind, LossKind, Reason

_TITLES = ("title", "ctrTitle")
#: Placeholders that differ from one printing to the next.
_SILENT = ("sldNum", "dt")
_MEDIA = tuple(f"{A}{name}" for name in ("videoFile", "audioFile", "wavAudioFile", "quickTimeFile"))


def parse_pptx(path: Path, name: str) -> Parsed:
    """Elements of the PowerPoint file at `path`: a slide's title is its heading, its number is the page; notes are included.

    Raises DocumentError (corrupt) for a file without a readable presentation.
    """
    losses, share = Losses(), Share()
    package = Package(zipfile.ZipFile(path), losses)
    try:
        title, elements = headed(_Deck(package).elements(share))
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # a defect of this reader
        return second_reading(path, name, "pptx", error)
    named, properties = package.core()
    return Parsed(title or named, elements, share, losses, properties)


class _Deck:
    """The slides of a presentation."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._losses = package.losses
        self._footers: dict[str, None] = {}
        self._authors = self._read_authors()

    def elements(self, share: Share) -> Iterator[Element]:
        """All slides in their order; footers come last, each once."""
        main = self._package.main
        root = self._package.tree(main)
        if root is None:
            raise DocumentError(Reason.CORRUPT, f"its part {main} cannot be read")
        slides = [self._package.target(main, node.get(f"{R}id")) for node in root.iter(f"{P}sldId")]
        for number, part in enumerate(slides, 1):
            share.count(number - 1, len(slides))
            if part is None or (slide := self._package.tree(part)) is None:
                self._losses.add(LossKind.UNREADABLE_PART, f"page {number}", "the slide is missing")
                continue
            yield from self._slide(slide, part, number)
        for text in self._footers:
            yield Element(text)

    def _slide(self, slide: Node, part: str, number: int) -> Iterator[Element]:
        trees = list(slide.iter(f"{P}spTree"))
        found = [e for tree in trees for e in self._shapes(tree, part, number)]
        heading = next((e for e in found if e.kind is ElementKind.HEADING), None)
        yield heading or Element(f"Slide {number}", ElementKind.HEADING, 1, page=number)
        for element in found:
            if element is not heading:
                kept = ElementKind.PARAGRAPH if element.kind is ElementKind.HEADING else element.kind
                yield Element(element.text, kept, page=number, header=element.header)
        for notes in self._package.related(part, "notesSlide"):
            yield from self._notes(notes, number)
        for kind in ("comments", "comment"):
            for comments in self._package.related(part, kind):
                yield from self._comments(comments, number)

    def _shapes(self, tree: Node, part: str, page: int) -> Iterator[Element]:
        for shape in children(tree):
            if (named := next(shape.iter(f"{P}cNvPr"), None)) is not None and named.get("hidden") in ("1", "true"):
                continue
            if shape.tag == f"{P}sp":
                yield from self._text(shape, page)
            elif shape.tag == f"{P}grpSp":
                yield from self._shapes(shape, part, page)
            elif shape.tag == f"{P}graphicFrame":
                yield from graphic(self._package, part, shape, page)
                for embedded in shape.iter(f"{P}oleObj"):
                    self._losses.add(LossKind.EMBEDDED_OBJECT, f"page {page}", embedded.get("progId") or "an object")
            elif shape.tag == f"{P}pic":
                if any(next(shape.iter(tag), None) is not None for tag in _MEDIA):
                    self._losses.add(LossKind.EMBEDDED_OBJECT, f"page {page}", "a video or a sound")
                else:
                    yield from picture(next(shape.iter(f"{P}cNvPr"), None), self._losses, page, f"page {page}")

    def _text(self, shape: Node, page: int) -> Iterator[Element]:
        place = next(shape.iter(f"{P}ph"), None)
        kind = "" if place is None else place.get("type") or "body"
        if kind in _SILENT:
            return
        told = [line for body in shape.iterchildren(f"{P}txBody") for line in lines(body)]
        if kind in _TITLES:
            if text := " ".join(line.text for line in told):
                yield Element(text, ElementKind.HEADING, 1, page=page)
        elif kind in ("ftr", "hdr"):
            self._footers.update(dict.fromkeys(line.text for line in told))
        else:
            for line in told:
                item = line.is_item or kind == "body"
                yield from parts(line.text, ElementKind.LIST_ITEM if item else ElementKind.PARAGRAPH, page=page)

    def _notes(self, part: str, page: int) -> Iterator[Element]:
        """What the speaker wrote; the picture of the slide and its number stand there too."""
        root = self._package.tree(part)
        for shape in root.iter(f"{P}sp") if root is not None else ():
            place = next(shape.iter(f"{P}ph"), None)
            if place is None or (place.get("type") or "body") == "body":
                for line in (line for body in shape.iterchildren(f"{P}txBody") for line in lines(body)):
                    yield from parts(line.text, page=page)

    def _comments(self, part: str, page: int) -> Iterator[Element]:
        """Comments of both forms: with the text in an element of its own, and with a text body."""
        root = self._package.tree(part)
        for node in root.iter("{*}cm") if root is not None else ():
            author = self._authors.get(node.get("authorId") or "", "")
            own = squeeze(node.findtext(f"{P}text") or "")
            replies = [" ".join(line.text for line in lines(body)) for body in node.iter("{*}txBody")]
            for text in filter(None, [own, *replies]):
                yield from parts(f"{said('Comment', author, node.get('dt') or node.get('created'))}: {text}", page=page)

    def _read_authors(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for kind in ("commentAuthors", "authors"):
            for part in self._package.related(self._package.main, kind):
                root = self._package.tree(part)
                for node in root if root is not None else ():
                    found[node.get("id") or ""] = squeeze(node.get("name") or "")
        return found
