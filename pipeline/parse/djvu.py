"""DjVu documents: the text that their pages hold, by the programs of DjVuLibre."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse.hyphens import DIVIDED, Words
from pipeline.parse.parsed import Losses, Parsed, Share, parts, squeeze
from pipeline.text import plural
from pipeline.types import UNREAD, Element, LossKind, Program, Reason

#: What installs the programs.
INSTALL = "apt-get install djvulibre-bin"
#: Controls that end columns, regions and paragraphs.
_PARAGRAPHS = re.compile("[\x0b\x1d\x1f]|\n[ \t]*\n")
_DIVIDED = re.compile(r"(?<=\w)[-\u00ad]\n(?=\w)")


def parse_djvu(path: Path, name: str) -> Parsed:
    """Paragraphs of the text in the document at `path`, with their pages; pages without text are losses.

    Raises DocumentError: UNSUPPORTED where DjVuLibre is not installed, CORRUPT, EMPTY_TEXT.
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
    return Parsed("", _elements(path.resolve(), int(told), share, losses), share, losses)


def is_installed() -> bool:
    """Whether DjVuLibre's programs are here."""
    return all(shutil.which(name) is not None for name in ("djvutxt", "djvused"))


def _elements(path: Path, count: int, share: Share, losses: Losses) -> Iterator[Element]:
    words, some = Words(), False
    for number in range(1, count + 1):
        share.count(number - 1, count)
        # One page a call: in the text of a whole document, pages without text are left out and not counted.
        page = _DIVIDED.sub(DIVIDED, _run("djvutxt", f"--page={number}", str(path)))
        words.learn([page])
        found = [squeeze(words.undivided(paragraph)) for paragraph in _PARAGRAPHS.split(page)]
        if not any(found):
            losses.add(LossKind.PAGE_WITHOUT_TEXT, f"page {number}", "a scan without a layer of text")
        for paragraph in found:
            some = some or bool(paragraph)
            yield from parts(paragraph, page=number)
    if not some:
        detail = f"no layer of text on {plural(count, 'page')}; convert it to PDF, whose scanned pages OCR reads"
        raise DocumentError(Reason.EMPTY_TEXT, detail)


def _run(program: str, *arguments: str) -> str:
    """What a program of DjVuLibre prints. Raises DocumentError: CORRUPT, CRASHED."""
    ended = subprocess.run([program, *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        said = " ".join(ended.stderr.decode("utf-8", "replace").split())[-200:]
        reason = Reason.CRASHED if ended.returncode < 0 else Reason.CORRUPT
        raise DocumentError(reason, f"{program}: {said or f'status {ended.returncode}'}")
    return ended.stdout.decode("utf-8", "replace").replace("\f", "")
