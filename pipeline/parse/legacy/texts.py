"""Word and PowerPoint files from before 2007: LibreOffice converts them to the later formats, which our readers read."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.parse.legacy.container import read_properties
from pipeline.parse.legacy.libreoffice import convert
from pipeline.parse.ooxml.slides import parse_pptx
from pipeline.parse.ooxml.word import parse_docx
from pipeline.parse.parsed import Parsed
from pipeline.types import Element


def parse_doc(path: Path, name: str) -> Parsed:
    """Elements of the old Word file at `path`; raises DocumentError, UNSUPPORTED where LibreOffice is not installed."""
    return _converted(path, name, "docx", parse_docx)


def parse_ppt(path: Path, name: str) -> Parsed:
    """Elements of the old PowerPoint file at `path`; raises DocumentError, UNSUPPORTED where LibreOffice is not installed."""
    return _converted(path, name, "pptx", parse_pptx)


def _converted(path: Path, name: str, form: str, parser: Callable[[Path, str], Parsed]) -> Parsed:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="converted-")))
        parsed = parser(convert(path, form, folder), name)
        title, properties = read_properties(path)  # LibreOffice puts its own in their place
        kept = stack.pop_all()
    elements = _then_close(parsed.elements, kept)
    return replace(parsed, title=parsed.title or title, elements=elements, metadata=properties or parsed.metadata)


def _then_close(elements: Iterator[Element], kept: contextlib.ExitStack) -> Iterator[Element]:
    """The elements, and the end of the folder that they are read from."""
    with kept:
        yield from elements
