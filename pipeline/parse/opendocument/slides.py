"""OpenDocument presentations: every slide is a page under its title, with its shapes, notes and comments."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.parse.opendocument.blocks import Blocks
from pipeline.parse.opendocument.package import CONTENT, DRAW, OFFICE, PRESENTATION, STYLES, Node, Package
from pipeline.parse.opendocument.styles import Styles
from pipeline.parse.parsed import Losses, Parsed, Share, headed, squeeze
from pipeline.types import Element, ElementKind

_CLASS = f"{PRESENTATION}class"
#: Frames that differ from one printing to the next, or repeat the footer.
_SILENT = frozenset(("page-number", "date-time", "header", "footer"))


def parse_odp(path: Path, name: str) -> Parsed:
    """Elements of the presentation at `path`: a slide's title is its heading, its number is the page; notes are included.

    Raises DocumentError (corrupt) for a file without a readable presentation.
    """
    losses, share = Losses(), Share()
    package = Package(zipfile.ZipFile(path), losses)
    title, elements = headed(_slides(package, share))
    named, properties = package.properties()
    return Parsed(title or named, elements, share, losses, properties)


def _slides(package: Package, share: Share) -> Iterator[Element]:
    """All slides in their order; footers come last, each once."""
    root = package.tree(CONTENT)
    body = root.find(f"{OFFICE}body/{OFFICE}presentation") if root is not None else None
    if body is None:
        raise package.corrupt("an OpenDocument presentation without slides")
    blocks = Blocks(package, Styles(package.tree(STYLES), body.getparent().getparent().find(f"{OFFICE}automatic-styles")))
    slides = list(body.iterchildren(f"{DRAW}page"))
    for at, slide in enumerate(slides, 1):
        share.count(at - 1, len(slides))
        blocks.page = at
        yield from _slide(slide, blocks, at)
    footers = (squeeze(node.text or "") for node in body.iterchildren(f"{PRESENTATION}footer-decl"))
    for text in dict.fromkeys(filter(None, footers)):
        yield Element(text)


def _slide(slide: Node, blocks: Blocks, at: int) -> Iterator[Element]:
    shapes = [shape for shape in slide if shape.get(f"{PRESENTATION}placeholder") != "true" and shape.get(_CLASS) not in _SILENT]
    titles = [shape for shape in shapes if shape.get(_CLASS) == "title"]
    heading = " ".join(e.text for shape in titles[:1] for e in blocks.kept(shape))
    yield Element(heading or f"Slide {at}", ElementKind.HEADING, 1, page=at)
    for shape in shapes:
        if shape.tag == f"{PRESENTATION}notes":
            yield from _notes(shape, blocks)
        elif shape not in titles[:1]:
            yield from map(_text, blocks.kept(shape))


def _notes(notes: Node, blocks: Blocks) -> Iterator[Element]:
    """What the speaker wrote; the picture of the slide and its number stand there too."""
    for shape in notes:
        if shape.get(_CLASS) == "notes" and shape.get(f"{PRESENTATION}placeholder") != "true":
            yield from map(_text, blocks.kept(shape))


def _text(element: Element) -> Element:
    """An element below the slide's title, which is its only heading."""
    kind = ElementKind.PARAGRAPH if element.kind is ElementKind.HEADING else element.kind
    return Element(element.text, kind, page=element.page, header=element.header)
