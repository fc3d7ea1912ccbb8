"""OpenDocument texts: read block by block, so that memory depends on the largest block and not on the document."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.parse.opendocument.blocks import Blocks
from pipeline.parse.opendocument.package import OFFICE, STYLE, STYLES, TEXT, Node, Package, forget
from pipeline.parse.opendocument.styles import Styles
from pipeline.parse.parsed import Losses, Parsed, headed, pieces
from pipeline.types import Element, ElementKind


def parse_odt(path: Path, name: str) -> Parsed:
    """Elements of the OpenDocument text at `path`; pages only where the file records its page breaks.

    Raises DocumentError (corrupt) for a file without a readable body.
    """
    losses = Losses()
    package = Package(zipfile.ZipFile(path), losses)
    title, elements = headed(_with_whole_code(_elements(package)))
    named, properties = package.properties()
    return Parsed(title or named, elements, losses=losses, metadata=properties)


def _elements(package: Package) -> Iterator[Element]:
    """All elements; headers and footers come last, each once."""
    common = package.tree(STYLES)
    styles = Styles(common)
    blocks = Blocks(package, styles)
    found = False
    for node in _blocks_of_body(package, styles, blocks):
        found = True
        yield from blocks.kept(node)
    if not found:
        raise package.corrupt("an OpenDocument text without a body")
    blocks.page = None
    if common is not None:
        yield from _running_texts(common, blocks)


def _with_whole_code(elements: Iterator[Element]) -> Iterator[Element]:
    """The elements, with lines of code that follow each other as one: in the file each is a paragraph."""
    for kind, group in itertools.groupby(elements, key=lambda element: element.kind):
        if kind is not ElementKind.CODE:
            yield from group
            continue
        lines = list(group)
        whole = "\n".join(line.text for line in lines)
        for first, last in pieces(whole):
            yield Element(whole[first:last], kind, page=lines[0].page)


def _blocks_of_body(package: Package, styles: Styles, blocks: Blocks) -> Iterator[Node]:
    """The blocks of the body and of its sections, each removed when the next one is asked for."""
    around: list[Node] = []  #: the body and the open sections
    for event, node in package.events(("start", "end")):
        if event == "end" and node.tag == f"{OFFICE}automatic-styles":
            styles.add(node)
        elif event == "start" and node.tag == f"{OFFICE}text" and not around:
            around.append(node)
            if node.get(f"{TEXT}use-soft-page-breaks") == "true":
                blocks.page, blocks.turns = 1, True
        elif not around:
            continue
        elif event == "start":
            shown = node.get(f"{TEXT}display") != "none"
            if node.tag == f"{TEXT}section" and shown and node.getparent() is around[-1]:
                around.append(node)
        elif node is around[-1]:
            around.pop()
        elif node.getparent() is around[-1]:
            yield node
            forget(node)


def _running_texts(common: Node, blocks: Blocks) -> Iterator[Element]:
    told: dict[str, None] = {}
    masters = common.find(f"{OFFICE}master-styles")
    for master in masters.iterchildren(f"{STYLE}master-page") if masters is not None else ():
        for name in ("header", "header-first", "header-left", "footer", "footer-first", "footer-left"):
            for part in master.iterchildren(f"{STYLE}{name}"):
                if part.get(f"{STYLE}display") != "false":
                    told.update(dict.fromkeys(e.text for e in blocks.inner(part)))
    for text in told:
        if any(c.isalpha() for c in text):  # numbers of pages say nothing
            yield Element(text)
