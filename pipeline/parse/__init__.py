"""Turns a document's file into elements: `parse` selects the parser for the media type and imports it only then."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import DocumentError, InstallationError, NoSpace
from pipeline.files.errors import disk_is_full
from pipeline.parse import kinds
from pipeline.parse.machine import without_machine_text
from pipeline.parse.ocr.scans import Scans
from pipeline.parse.parsed import Losses, Member, Parsed, headed
from pipeline.types import Element, ElementKind, LossKind, Reason, RecordFields

if TYPE_CHECKING:
    from pipeline.parse.record_documents import RecordDocument, Records

T = TypeVar("T")

__all__ = [
    "CONTAINERS",
    "MEDIA_TYPES",
    "PARSED_TYPES",
    "PARSER_VERSION",
    "Member",
    "Parsed",
    "each_record",
    "import_needed",
    "parse",
    "preload",
    "preload_gate",
]

#: Part of the parse fingerprint: raise it when any parser yields different elements or properties for the same file.
PARSER_VERSION = 9

#: Module and function for each media type; a module is imported when the first such document arrives.
_PARSERS = {
    kinds.PLAIN: ("plain", "parse_plain"),
    kinds.MARKDOWN: ("markdown", "parse_markdown"),
    kinds.RST: ("rst", "parse_rst"),
    kinds.HTML: ("html", "parse_html"),
    kinds.SOURCE: ("source", "parse_source"),
    kinds.XML: ("xmltext", "parse_xml"),
    kinds.SVG: ("xmltext", "parse_xml"),
    kinds.NOTEBOOK: ("notebook", "parse_notebook"),
    kinds.SUBTITLES: ("subtitles", "parse_subtitles"),
    kinds.CATALOG: ("catalog", "parse_catalog"),
    kinds.CALENDAR: ("cards", "parse_cards"),
    kinds.CARDS: ("cards", "parse_cards"),
    kinds.LATEX: ("pandoc", "parse_latex"),
    kinds.ORG: ("pandoc", "parse_org"),
    kinds.ASCIIDOC: ("pandoc", "parse_asciidoc"),
    kinds.CSV: ("delimited", "parse_csv"),
    kinds.TSV: ("delimited", "parse_tsv"),
    kinds.XLSX: ("ooxml.sheets", "parse_xlsx"),
    kinds.JSON: ("records", "parse_json"),
    kinds.JSON_LINES: ("records", "parse_json_lines"),
    kinds.PDF: ("pdf", "parse_pdf"),
    **dict.fromkeys(sorted(kinds.IMAGES), ("images", "parse_image")),
    kinds.DOCX: ("ooxml.word", "parse_docx"),
    kinds.PPTX: ("ooxml.slides", "parse_pptx"),
    kinds.EML: ("mail", "parse_eml"),
    kinds.MSG: ("mail", "parse_msg"),
    kinds.MBOX: ("archives", "parse_mbox"),
    kinds.ZIP: ("archives", "parse_zip"),
    kinds.TAR: ("archives", "parse_tar"),
    kinds.COMPRESSED: ("archives", "parse_compressed"),
    kinds.SEVENZIP: ("archives", "parse_7z"),
    kinds.EPUB: ("pandoc", "parse_epub"),
    kinds.ODT: ("opendocument.text", "parse_odt"),
    kinds.ODP: ("opendocument.slides", "parse_odp"),
    kinds.ODS: ("opendocument.sheets", "parse_ods"),
    kinds.DOC: ("legacy.texts", "parse_doc"),
    kinds.PPT: ("legacy.texts", "parse_ppt"),
    kinds.XLS: ("legacy.sheets", "parse_xls"),
    kinds.DJVU: ("djvu", "parse_djvu"),
    kinds.RTF: ("rtf.document", "parse_rtf"),
    kinds.RECORD: ("record_documents", "parse_record"),
}
#: Types that can be preloaded, and types that files have.
PARSED_TYPES = frozenset(_PARSERS)
MEDIA_TYPES = PARSED_TYPES - {kinds.RECORD}
#: Types whose pages may be pictures of text: their parsers get what reads them.
_SCANNED = kinds.IMAGES | {kinds.PDF, kinds.DJVU}
#: Types that hold files and no text of their own.
CONTAINERS = frozenset((kinds.MBOX, kinds.ZIP, kinds.TAR, kinds.COMPRESSED, kinds.SEVENZIP))

#: Modules that the parsers import when they run. The guard's server imports them before it forks: once, and outside the
#: limits of any document.
_HEAVY = {
    kinds.MARKDOWN: ("markdown_it",),
    kinds.NOTEBOOK: ("markdown_it",),
    kinds.MSG: ("oxmsg",),
}
#: The same for the gate.
_HEAVY_GATE = ("chardet", "olefile", "lxml.etree")
#: Maximum reported characters of an import error: some libraries write a page.
_CAUSE_CHARS = 150
#: The dynamic loader prints these words when it runs out of memory.
_NO_ROOM_FOR_MODULE = ("failed to map segment", "annot allocate memory")


def parse(path: Path, name: str, media_type: str, scans: Scans | None = None) -> Parsed:
    """Elements of the document at `path`, with the original name `name` and the type that `gate.inspect` returned.

    `scans` reads pages without text.

    Elements are read lazily where the format allows it. The title is the document's own, else its first heading, else
    `name`. Raises DocumentError, with the most specific reason, here or while the elements are read; NoSpace.
    """
    if media_type not in _PARSERS:
        raise DocumentError(Reason.UNSUPPORTED, media_type)
    given = (scans or Scans(),) if media_type in _SCANNED else ()
    parsed = _guarded(lambda: _parser(media_type)(path, name, *given))
    elements, title = _checked(_translated(parsed.elements), parsed.losses), parsed.title
    if not title and media_type not in CONTAINERS:
        title, elements = headed(elements)
        title = title or name
    return replace(parsed, title=title, elements=elements, members=_translated(parsed.members))


def each_record(path: Path, media_type: str, fields: RecordFields) -> tuple[Records, Iterator[RecordDocument]] | None:
    """The records of the file at `path`, read lazily, and what is known of them; None for a file that does not consist of any.

    Raises DocumentError, here or while they are read, for a file that is damaged so that some of them are unknown.
    """
    from pipeline.parse.record_documents import records_of

    records = _guarded(lambda: records_of(path, media_type, fields))
    return (records, _translated(iter(records))) if records is not None else None


def preload(media_types: Iterable[str]) -> None:
    """Import all modules that the parsers of `media_types` need. Raises InstallationError."""
    for media_type in media_types:
        import_needed(f"pipeline.parse.{_PARSERS[media_type][0]}")
        for module in _HEAVY.get(media_type, ()):
            import_needed(module)


def preload_gate() -> None:
    """Import all modules that the gate needs. Raises InstallationError."""
    for module in _HEAVY_GATE:
        import_needed(module)


def import_needed(module: str) -> ModuleType:
    """Import a module that kb-ingest requires. Raises InstallationError."""
    try:
        return import_module(module)
    except MemoryError:
        raise
    except Exception as error:  # a library built for another version of a dependency may raise anything
        raise _not_importable(module, error) from error


def _parser(media_type: str) -> Callable[..., Parsed]:
    module, function = _PARSERS[media_type]
    parser: Callable[..., Parsed] = getattr(import_module(f"pipeline.parse.{module}"), function)
    return parser


def _not_importable(module: str, error: Exception) -> InstallationError:
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:_CAUSE_CHARS]
    return InstallationError(
        f"the module {module} cannot be imported ({cause}); reinstall kb-ingest with its packages and restart its workers"
    )


def _import_failure(error: ImportError) -> InstallationError | DocumentError:
    """A fault of the installation, since no document chooses modules; or a document that left no memory for importing them."""
    if any(words in str(error) for words in _NO_ROOM_FOR_MODULE):
        return DocumentError(Reason.OUT_OF_MEMORY, "the parser ran out of memory")
    return _not_importable(error.name or "of a parser", error)


def _checked(elements: Iterator[Element], losses: Losses) -> Iterator[Element]:
    """The elements without text for machines; what is cut, and characters that could not be decoded, are losses."""
    undecodable = 0
    for element in elements:
        undecodable += element.text.count("\ufffd")
        text, removed = without_machine_text(element.text)
        if removed:
            losses.add(LossKind.MACHINE_TEXT, f"page {element.page}" if element.page is not None else "", count=removed)
            element = replace(element, text=text.strip() if element.kind is not ElementKind.CODE else text)
        yield element
    if undecodable:
        losses.add(LossKind.UNDECODABLE_BYTES, detail="shown as U+FFFD", count=undecodable)


def _translated(found: Iterator[T]) -> Iterator[T]:
    """The items, with errors of parsers and of the libraries below them as a DocumentError."""
    while (item := _guarded(lambda: next(found, None))) is not None:
        yield item


def _guarded(step: Callable[[], T]) -> T:
    """The result of `step`; errors of parsers and of the libraries below them become a DocumentError."""
    try:
        return step()
    except (DocumentError, InstallationError, NoSpace):
        raise
    except ImportError as error:
        raise _import_failure(error) from error
    except MemoryError as error:
        raise DocumentError(Reason.OUT_OF_MEMORY, "the parser ran out of memory") from error
    except RecursionError as error:
        raise DocumentError(Reason.CORRUPT, "nested too deeply") from error
    except OSError as error:
        if disk_is_full(error):
            raise NoSpace(f"no space for temporary files of the parser: {error}") from error
        reason = Reason.UNREADABLE if error.errno in (errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE) else Reason.CORRUPT
        raise DocumentError(reason, f"{type(error).__name__}: {error}"[:300]) from error
    except Exception as error:  # dozens of libraries, each with its own errors
        raise DocumentError(Reason.CORRUPT, f"{type(error).__name__}: {error}"[:300]) from error
