"""An OpenDocument package: its parts, its properties, and the objects inside it."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any
from urllib.parse import unquote

from lxml import etree

from pipeline.errors import DocumentError
from pipeline.parse.ooxml.package import DAMAGED, note_damage
from pipeline.parse.parsed import Losses, squeeze
from pipeline.parse.properties import properties
from pipeline.types import LossKind, Reason

#: lxml has no type information.
Node = Any

_OASIS = "urn:oasis:names:tc:opendocument:xmlns"
OFFICE = f"{{{_OASIS}:office:1.0}}"
TEXT = f"{{{_OASIS}:text:1.0}}"
TABLE = f"{{{_OASIS}:table:1.0}}"
DRAW = f"{{{_OASIS}:drawing:1.0}}"
STYLE = f"{{{_OASIS}:style:1.0}}"
FO = f"{{{_OASIS}:xsl-fo-compatible:1.0}}"
SVG = f"{{{_OASIS}:svg-compatible:1.0}}"
NUMBER = f"{{{_OASIS}:datastyle:1.0}}"
PRESENTATION = f"{{{_OASIS}:presentation:1.0}}"
CHART = f"{{{_OASIS}:chart:1.0}}"
META = f"{{{_OASIS}:meta:1.0}}"
DC = "{http://purl.org/dc/elements/1.1/}"
XLINK = "{http://www.w3.org/1999/xlink}"
LOEXT = "{urn:org:documentfoundation:names:experimental:office:xmlns:loext:1.0}"
MATH = "{http://www.w3.org/1998/Math/MathML}"

CONTENT, STYLES = "content.xml", "styles.xml"
#: Our names of the properties; a document has the one who began it and the one who saved it last.
_PROPERTIES = (
    (f"{META}initial-creator", "author"),
    (f"{DC}creator", "author"),
    (f"{DC}subject", "subject"),
    (f"{DC}language", "language"),
    (f"{META}creation-date", "created"),
    (f"{DC}date", "modified"),
)


class Package:
    """The parts of a file. Damaged and missing parts are recorded as losses."""

    def __init__(self, archive: zipfile.ZipFile, losses: Losses) -> None:
        self.losses = losses
        self._archive = archive
        self._names = frozenset(archive.namelist())
        if CONTENT not in self._names:
            raise self.corrupt(f"an OpenDocument file without {CONTENT}")

    def corrupt(self, why: str) -> DocumentError:
        """The error of a file without a readable body. It closes the file, which the error's traceback would keep open."""
        self._archive.close()
        return DocumentError(Reason.CORRUPT, why)

    def tree(self, part: str) -> Node | None:
        """The root of a part, read as far as possible; None where it is missing, and a loss where it is damaged."""
        if part not in self._names:
            return None
        try:
            data = self._archive.read(part)
        except DAMAGED as error:
            self.losses.add(LossKind.UNREADABLE_PART, part, str(error))
            return None
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, huge_tree=True, recover=True, remove_comments=True, remove_pis=True
        )
        root = etree.fromstring(data, parser) if data else None
        note_damage(self.losses, part, parser.error_log)
        return root

    def events(self, events: tuple[str, ...], tags: tuple[str, ...] | None = None) -> Iterator[tuple[str, Node]]:
        """Walk over the content while it is read; a damaged one ends there, and that is a loss."""
        try:
            with closing(self._content()) as file:
                context = etree.iterparse(
                    file, events=events, tag=tags, resolve_entities=False, no_network=True, huge_tree=True, recover=True,
                    remove_comments=True, remove_pis=True,
                )  # fmt: skip
                yield from context
                note_damage(self.losses, CONTENT, context.error_log)
        except (etree.XMLSyntaxError, *DAMAGED) as error:
            self.losses.add(LossKind.UNREADABLE_PART, CONTENT, str(error))

    def _content(self) -> IO[bytes]:
        return self._archive.open(CONTENT)

    def object(self, href: str | None) -> Node | None:
        """The root of an object inside the document, such as a chart or an equation."""
        folder = posixpath.normpath(unquote(href or "")).removeprefix("./").strip("/")
        return self.tree(f"{folder}/{CONTENT}") if folder not in ("", ".") else None

    def properties(self) -> tuple[str, dict[str, str]]:
        """The title, and the other properties."""
        root = self.tree("meta.xml")
        meta = root.find(f"{OFFICE}meta") if root is not None else None
        if meta is None:
            return "", {}
        found = [(ours, meta.findtext(name) or "") for name, ours in _PROPERTIES]
        keywords = [squeeze(node.text or "") for node in meta.iterchildren(f"{META}keyword")]
        return squeeze(meta.findtext(f"{DC}title") or ""), properties([*found, ("keywords", ", ".join(filter(None, keywords)))])


def forget(node: Node) -> None:
    """Free a node that has been read, and those before it."""
    node.clear()
    while node.getprevious() is not None:
        del node.getparent()[0]
