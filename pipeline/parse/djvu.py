"""DjVu documents by the programs of DjVuLibre: the text that their pages hold; pages without text are read by OCR."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DocumentError
from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.ocr.scans import Scans
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.text import plural
from pipeline.types import UNREAD, Element, LossKind, Program, Reason

if TYPE_CHECKING:
    from PIL.Image import Image

#: What installs the programs.
INSTALL = "apt-get install djvulibre-bin"
#: Controls that end columns, regions and paragraphs.
_PARAGRAPHS = re.compile("[\x0b\x1d\x1f]|\n[ \t]*\n")
_SIZE = re.compile(r"width=(\d+) height=(\d+)")
_DIVIDED = re.compile(r"(?<=\w)[-\u00ad]\n(?=\w)")


def parse_djvu(path: Path, name: str, scans: Scans | None = None) -> Parsed:
    """Paragraphs of the text in the document at `path`, with their pages; pages without text are read by `scans`, or losses.

    Raises DocumentError: UNSUPPORTED where DjVuLibre is not installed, CORRUPT, NEEDS_OCR, EMPTY_TEXT.
    """
    if not is_installed():
        raise DocumentError(Reason.UNSUPPORTED, f"{UNREAD[Program.DJVULIBRE][0]}; to read it: {INSTALL}")
    share, losses = Share(), Losses()
    with path.open("rb") as file:
        head = file.read(12)
    if path.stat().st_size < int.from_bytes(head[8:12], "big") + len(head):
        losses.add(LossKind.UNREADABLE_PART, detail="the file ends before its last page")
    told = _run("djvused", "-e", "n", str(path.resolve())).strip()
    if not told.isdecimal():
        raise DocumentError(Reason.CORRUPT, "djvused finds no pages in it")
    return Parsed("", _elements(path.resolve(), int(told), scans or Scans(), share, losses), share, losses)


def is_installed() -> bool:
    """Whether DjVuLibre's programs are here."""
    return all(shutil.which(name) is not None for name in ("djvutxt", "djvused", "ddjvu"))


def _elements(path: Path, count: int, scans: Scans, share: Share, losses: Losses) -> Iterator[Element]:
    words, some, unread = Words(), False, False
    for number in range(1, count + 1):
        share.count(number - 1, count)
        # One page a call: in the text of a whole document, pages without text are left out and not counted.
        page = _DIVIDED.sub(DIVIDED, _run("djvutxt", f"--page={number}", str(path)))
        words.learn([page])
        found = [squeeze(words.undivided(paragraph)) for paragraph in _PARAGRAPHS.split(page)]
        if not any(found):
            read = scans.read(partial(_drawn, path, number), number, losses)
            if read is None:
                unread = True
                losses.add(LossKind.PAGE_WITHOUT_TEXT, f"page {number}", scans.explained("a scan without a layer of text"))
            some = some or bool(read)
            yield from read or ()
        for paragraph in found:
            some = some or bool(paragraph)
            yield from parts(paragraph, page=number)
    if not some:
        why = scans.hint if unread else losses.told_of(LossKind.PAGE_WITHOUT_TEXT, LossKind.LOW_CONFIDENCE)
        detail = f"no text on {plural(count, 'page')}{'; ' if why else ''}{why}"
        raise DocumentError(Reason.NEEDS_OCR if unread else Reason.EMPTY_TEXT, detail)


def _drawn(path: Path, number: int, most: int) -> Image:
    """A page in shades of grey, with at most `most` pixels. Raises ValueError for one that cannot be drawn."""
    import PIL.Image

    try:
        size = _SIZE.search(_run("djvused", "-e", f"select {number}; size", str(path)))
        if size is None:
            raise ValueError("djvused finds no size of the page")
        width, height = int(size.group(1)), int(size.group(2))
        shrunk = min(1.0, (most / max(1, width * height)) ** 0.5)
        limits = f"-size={max(1, int(width * shrunk))}x{max(1, int(height * shrunk))}"
        drawn = _printed("ddjvu", "-format=pgm", f"-page={number}", limits, str(path))
        return PIL.Image.open(io.BytesIO(drawn), formats=("PPM",))
    except (DocumentError, OSError) as error:
        raise ValueError(str(error)) from error


def _run(program: str, *arguments: str) -> str:
    """The text that a program of DjVuLibre prints. Raises DocumentError: CORRUPT, CRASHED."""
    return _printed(program, *arguments).decode("utf-8", "replace").replace("\f", "")


def _printed(program: str, *arguments: str) -> bytes:
    ended = subprocess.run([program, *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        said = " ".join(ended.stderr.decode("utf-8", "replace").split())[-200:]
        reason = Reason.CRASHED if ended.returncode < 0 else Reason.CORRUPT
        raise DocumentError(reason, f"{program}: {said or f'status {ended.returncode}'}")
    return ended.stdout
