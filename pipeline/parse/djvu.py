"""DjVu documents: the text that their pages hold, by DjVuLibre's djvutxt."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.types import Element, LossKind, Reason

#: What installs the program.
INSTALL = "apt-get install djvulibre-bin"
#: It ends each page with a form feed, and separates columns, regions and paragraphs by other controls.
_PAGE = "\f"
_PARAGRAPHS = re.compile("[\x0b\x1d\x1f]|\n[ \t]*\n")
#: A word that is divided at the end of a line.
_DIVIDED = re.compile(r"(?<=[^\W\d_])[-\u00ad]\n(?=[^\W\d_])")


def parse_djvu(path: Path, name: str) -> Parsed:
    """Paragraphs of the text in the document at `path`, with their pages; pages without text are losses.

    Raises DocumentError: UNSUPPORTED where djvutxt is not installed, CORRUPT, EMPTY_TEXT.
    """
    if (program := shutil.which("djvutxt")) is None:
        raise DocumentError(Reason.UNSUPPORTED, f"DjVu document; djvutxt, which reads it, is not installed; to read it: {INSTALL}")
    ended = subprocess.run([program, str(path.resolve())], capture_output=True, check=False)
    if ended.returncode:
        said = " ".join(ended.stderr.decode("utf-8", "replace").split())[-200:]
        raise DocumentError(Reason.CRASHED if ended.returncode < 0 else Reason.CORRUPT, f"djvutxt: {said or ended.returncode}")
    pages = ended.stdout.decode("utf-8", "replace").removesuffix(_PAGE).split(_PAGE)
    if not any(page.strip() for page in pages):
        raise DocumentError(Reason.EMPTY_TEXT, "a scan without a layer of text; make a PDF of it, whose pages OCR can read")
    share, losses = Share(), Losses()
    return Parsed("", _elements(pages, share, losses), share, losses)


def _elements(pages: list[str], share: Share, losses: Losses) -> Iterator[Element]:
    for number, page in enumerate(pages, 1):
        share.count(number - 1, len(pages))
        if not page.strip():
            losses.add(LossKind.PAGE_WITHOUT_TEXT, f"page {number}", "a scan without a layer of text")
        for paragraph in _PARAGRAPHS.split(page):
            yield from parts(squeeze(_DIVIDED.sub("", paragraph)), page=number)
