"""An Office Open XML package: its parts, found by relationships and content types, in the transitional and the strict form."""

from __future__ import annotations

import itertools
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import unquote

from lxml import etree

from pipeline.errors import DocumentError
from pipeline.parse.parsed import Losses, squeeze
from pipeline.parse.properties import of_core
from pipeline.types import LossKind, Reason

#: lxml has no type information.
Node = Any

#: Names of the transitional form; `data` and `tree` translate strict documents to it.
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"

_STRICT = b"http://purl.oclc.org/ooxml/"
_STRICT_NAME = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)")
_STRICT_CORE = "http://purl.oclc.org/ooxml/officeDocument/relationships/"
_NUMBERED = re.compile("_x([0-9A-Fa-f]{4})_")
#: Content types and relationships are short; longer ones are refused.
_MAX_INDEX_BYTES = 8 << 20
#: Main parts of files whose package says nothing about them.
_USUAL_MAIN_PARTS = ("word/document.xml", "ppt/presentation.xml", "xl/workbook.xml")
#: What the standard library raises for damaged zips.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class Relation:
    """A relationship from one part to another part or to an address."""

    kind: str  #: last segment of its type, such as `footnotes`
    target: str  #: name of the part, or an address where it is external
    external: bool


class Package:
    """The parts of a file. Damaged and missing parts are recorded as losses."""

    def __init__(self, archive: zipfile.ZipFile, losses: Losses) -> None:
        self.losses = losses
        self._archive = archive
        # Names of parts are compared without case, and some programs write backslashes.
        self._names = {name.replace("\\", "/").lstrip("/").lower(): name for name in archive.namelist()}
        self._relations: dict[str, dict[str, Relation]] = {}

    @property
    def main(self) -> str:
        """Name of the part that the package presents as the document; raises DocumentError (corrupt)."""
        found = next(iter(self.related("", "officeDocument")), "") or next((n for n in _USUAL_MAIN_PARTS if n in self._names), "")
        if not found:
            raise DocumentError(Reason.CORRUPT, "an office file without a main part")
        return found

    def has(self, part: str) -> bool:
        """Whether the package contains this part."""
        return part.lower() in self._names

    def open(self, part: str) -> IO[bytes]:
        """The part as a stream, unchanged. Raises KeyError where it is missing."""
        return self._archive.open(self._names[part.lower()])

    def data(self, part: str) -> bytes | None:
        """The bytes of a part, with transitional names; None, and a loss, where it is missing or damaged."""
        try:
            with self.open(part) as file:
                data = file.read()
        except KeyError:
            self.losses.add(LossKind.UNREADABLE_PART, part, "missing")
            return None
        except DAMAGED as error:
            self.losses.add(LossKind.UNREADABLE_PART, part, str(error))
            return None
        return _STRICT_NAME.sub(rb"http://schemas.openxmlformats.org/\1/2006/\2", data) if _STRICT in data else data

    def tree(self, part: str) -> Node | None:
        """The root of an XML part; None, and a loss, where it cannot be read. A damaged part is read as far as possible."""
        data = self.data(part)
        if not data:
            return None
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, huge_tree=True, recover=True, remove_comments=True, remove_pis=True
        )
        root = etree.fromstring(data, parser)
        note_damage(self.losses, part, parser.error_log)
        return root

    def relations(self, part: str) -> dict[str, Relation]:
        """The relationships of a part by their ids; those of the package for an empty name."""
        if part not in self._relations:
            folder, name = posixpath.split(part)
            index = posixpath.join(folder, "_rels", f"{name}.rels")
            self._relations[part] = dict(self._read_relations(folder, index)) if self.has(index) else {}
        return self._relations[part]

    def related(self, part: str, kind: str) -> list[str]:
        """Names of the existing parts that `part` is related to in this way."""
        found = [r.target for r in self.relations(part).values() if r.kind == kind and not r.external]
        return [target for target in found if self.has(target)]

    def target(self, part: str, key: str | None) -> str | None:
        """The existing part behind the relationship `key` of `part`."""
        relation = self.relations(part).get(key or "")
        return relation.target if relation and not relation.external and self.has(relation.target) else None

    def core(self) -> tuple[str, dict[str, str]]:
        """The title in the document's properties, and the others."""
        for part in self.related("", "core-properties"):
            if (root := self.tree(part)) is not None:
                found = [(str(node.tag).rpartition("}")[2], str(node.text or "")) for node in itertools.islice(root, 100)]
                return squeeze(dict(found).get("title", "")), of_core(found)
        return "", {}

    def _read_relations(self, folder: str, index: str) -> Iterator[tuple[str, Relation]]:
        root = self.tree(index)
        for node in root if root is not None else ():
            kind, target = node.get("Type") or "", node.get("Target") or ""
            external = node.get("TargetMode") == "External"
            if not external:
                target = unquote(target.replace("\\", "/"))
                target = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            yield node.get("Id") or "", Relation(kind.rsplit("/", 1)[-1], target, external)


def content_type(archive: zipfile.ZipFile) -> str:
    """The content type of the package's main part, or that part's name where no type is given; empty where it has none."""
    package = Package(archive, Losses())
    try:
        main = package.main
        with package.open("[Content_Types].xml") as file:
            data = file.read(_MAX_INDEX_BYTES)
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
    except (DocumentError, KeyError, etree.XMLSyntaxError, *DAMAGED):
        return ""
    by_suffix = ""
    for node in root if root is not None else ():
        if (node.get("PartName") or "").lstrip("/").lower() == main.lower():
            return str(node.get("ContentType"))
        if (node.get("Extension") or "").lower() == main.rpartition(".")[2].lower():
            by_suffix = node.get("ContentType") or ""
    return by_suffix if by_suffix.endswith(".main+xml") else main


def note_damage(losses: Losses, part: str, errors: Any) -> None:
    """Record the first fatal error of a parser that goes on after errors."""
    fatal = next((e for e in errors if e.level_name == "FATAL"), None)
    if fatal is not None:
        losses.add(LossKind.UNREADABLE_PART, part, f"line {fatal.line}: {fatal.message}")


def children(node: Node) -> Iterator[Node]:
    """The children of `node`, with the chosen content in place of alternatives for several versions of a program."""
    for child in node:
        if child.tag == f"{MC}AlternateContent":
            yield from chosen(child)
        elif isinstance(child.tag, str):
            yield child


def chosen(alternatives: Node) -> Iterator[Node]:
    """The content of the first alternative that has any."""
    option = next((option for option in alternatives if len(option)), None)
    if option is not None:
        yield from children(option)


def outermost(node: Node, name: str) -> Iterator[Node]:
    """The elements with this local name below `node` that are in no other one."""
    for child in children(node):
        if child.tag.endswith(f"}}{name}"):
            yield child
        else:
            yield from outermost(child, name)


def local(node: Node) -> str:
    """The name of an element without its namespace."""
    return str(node.tag).rpartition("}")[2]


def unescaped(text: str) -> str:
    """A text of a workbook with the characters that stand in it as numbers: `_x000D_` is a carriage return."""
    if "_x" not in text:
        return text
    text = _NUMBERED.sub(lambda found: chr(int(found.group(1), 16)), text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # some characters stand in it as two numbers
