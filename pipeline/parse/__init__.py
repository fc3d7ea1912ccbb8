"""Turns a document's file into elements: `parse` selects the parser for the media type and imports it only then."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from pipeline.errors import DocumentError, InstallationError, NoSpace
from pipeline.files.errors import disk_is_full
from pipeline.parse import kinds
from pipeline.parse.parsed import Parsed
from pipeline.types import Element, ElementKind, Reason

T = TypeVar("T")

__all__ = ["MEDIA_TYPES", "PARSER_VERSION", "Parsed", "import_needed", "parse", "preload", "preload_gate"]

#: Part of the parse fingerprint: raise it when any parser yields different elements for the same file.
PARSER_VERSION = 1

#: Module and function for each media type; a module is imported when the first such document arrives.
_PARSERS = {
    kinds.PLAIN: ("plain", "parse_plain"),
    kinds.MARKDOWN: ("markdown", "parse_markdown"),
    kinds.RST: ("rst", "parse_rst"),
    kinds.HTML: ("html", "parse_html"),
    kinds.SOURCE: ("source", "parse_source"),
    kinds.CSV: ("table", "parse_csv"),
    kinds.TSV: ("table", "parse_tsv"),
    kinds.XLSX: ("table", "parse_xlsx"),
    kinds.JSON: ("records", "parse_json"),
    kinds.JSON_LINES: ("records", "parse_json_lines"),
    kinds.PDF: ("pdf", "parse_pdf"),
    kinds.DOCX: ("office", "parse_docx"),
    kinds.PPTX: ("office", "parse_pptx"),
    kinds.EML: ("mail", "parse_eml"),
    kinds.MSG: ("mail", "parse_msg"),
    kinds.EPUB: ("pandoc", "parse_epub"),
    kinds.ODT: ("pandoc", "parse_odt"),
    kinds.RTF: ("pandoc", "parse_rtf"),
}
MEDIA_TYPES = frozenset(_PARSERS)

#: Modules that the parsers import when they run. The guard's server imports them before it forks: once, and outside the
#: limits of any document.
_HEAVY = {
    kinds.MARKDOWN: ("markdown_it",),
    kinds.XLSX: ("openpyxl",),
    kinds.MSG: ("oxmsg",),
    kinds.DOCX: ("unstructured.partition.docx",),
    kinds.PPTX: ("pptx", "unstructured.partition.pptx"),
}
#: The same for the gate.
_HEAVY_GATE = ("charset_normalizer", "olefile")
#: Maximum reported characters of an import error: some libraries write a page.
_CAUSE_CHARS = 150
#: The dynamic loader prints these words when it runs out of memory.
_NO_ROOM_FOR_MODULE = ("failed to map segment", "annot allocate memory")
#: Number of elements at the start that may contain the title.
_TITLE_WINDOW = 50


def parse(path: Path, name: str, media_type: str) -> Parsed:
    """Elements of the document at `path`, with the original name `name` and the type that `gate.inspect` returned.

    Elements are read lazily where the format allows it. The title is the document's own, else its first heading, else
    `name`. Raises DocumentError, with the most specific reason, here or while the elements are read; NoSpace.
    """
    if media_type not in _PARSERS:
        raise DocumentError(Reason.UNSUPPORTED, media_type)
    parsed = _guarded(lambda: _parser(media_type)(path, name))
    elements = _translated(parsed.elements)
    if parsed.title:
        return Parsed(parsed.title, elements, parsed.share)
    start = list(itertools.islice(elements, _TITLE_WINDOW))
    title = next((e.text for e in start if e.kind is ElementKind.HEADING), "") or name
    return Parsed(title, itertools.chain(start, elements), parsed.share)


def preload(media_types: Iterable[str]) -> None:
    """Import all modules that the parsers of `media_types` need. Raises InstallationError."""
    for media_type in media_types:
        import_needed(f"pipeline.parse.{_PARSERS[media_type][0]}")
        if media_type in (kinds.DOCX, kinds.PPTX):
            from pipeline.parse.offline import make_offline

            make_offline()
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


def _parser(media_type: str) -> Callable[[Path, str], Parsed]:
    module, function = _PARSERS[media_type]
    parser: Callable[[Path, str], Parsed] = getattr(import_module(f"pipeline.parse.{module}"), function)
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


def _translated(elements: Iterator[Element]) -> Iterator[Element]:
    while (element := _guarded(lambda: next(elements, None))) is not None:
        yield element


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
