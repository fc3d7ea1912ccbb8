"""Reads pages without text, within limits of size and time; what is not read is a loss."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import DocumentError, InstallationError, NoSpace
from pipeline.parse.hyphens import Words
from pipeline.parse.ocr.lines import ReadLine, ordered, paragraphs
from pipeline.parse.ocr.options import RAPIDOCR, OcrOptions
from pipeline.parse.parsed import Losses, parts
from pipeline.text import plural
from pipeline.types import Element, LossKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

#: Maximum pixels of a page that an engine gets: A4 at 300 dpi has 8.7 million. Larger ones are made smaller.
MAX_PIXELS = 9_000_000
#: Pages are drawn at this resolution, in dots per inch, where MAX_PIXELS allows it.
DPI = 200
#: Longest side relative to the shortest: longer strips hold no line that could be read once MAX_PIXELS are kept.
MAX_RATIO = 40.0

#: Standard deviation of the greys, from 0 to 255, up to which a page is blank, such as the back of a scanned sheet.
BLANK = 8.0

#: Draws a page with at most so many pixels.
Draw = Callable[[int], "Image"]

#: The engine of this process, once a page needed one, with the options it was made for.
_engines: dict[tuple[str, str], Any] = {}


class Scans:
    """Reads the pages of one document. `grant` is told before each page how many more seconds the document may take."""

    def __init__(self, options: OcrOptions | None = None, grant: Callable[[float], None] = lambda _: None) -> None:
        self._options = options or OcrOptions()
        self._grant = grant
        self._spent = 0.0  # seconds of the pages so far
        self._words = Words()
        self.asked = 0  #: pages without text

    @property
    def hint(self) -> str:
        """What to install so that pages are read; empty where an engine is there, or none is wanted."""
        return self._options.hint

    def explained(self, detail: str) -> str:
        """`detail` of a page that stays without text, with what to install."""
        return f"{detail}; {self.hint}" if self.hint else detail

    def read(self, draw: Draw, number: int, losses: Losses) -> list[Element] | None:
        """The paragraphs of page `number`, drawn by `draw`; None where no engine is there. What is left out is a loss."""
        self.asked += 1
        options, place = self._options, f"page {number}"
        if not options.engine:
            return None
        if self._spent >= options.document_s:
            detail = f"not read: the pages before it took {self._spent:.0f} s, KB_OCR_TIMEOUT_S is {options.document_s:g}"
            losses.add(LossKind.PAGE_WITHOUT_TEXT, place, detail)
            return []
        self._grant(options.page_s)
        began = time.monotonic()
        try:
            engine = _engine(options)  # the first page of a process does not pay for the models
            with _alarm(options.page_s):
                pixels = _pixels(draw(MAX_PIXELS))
                found = engine.lines(pixels, options.page_s)
        except (DocumentError, InstallationError, NoSpace, ImportError):
            raise
        except TimeoutError:
            detail = f"not read: it took longer than {options.page_s:g} s (KB_OCR_PAGE_TIMEOUT_S)"
            losses.add(LossKind.PAGE_WITHOUT_TEXT, place, detail)
            return []
        except MemoryError:
            losses.add(LossKind.PAGE_WITHOUT_TEXT, place, "not read: its picture needs more memory than KB_PARSE_MEMORY_BYTES")
            return []
        except Exception as error:  # of a drawing library or an engine, about this picture alone
            losses.add(LossKind.PAGE_WITHOUT_TEXT, place, f"not read: {type(error).__name__}: {error}")
            return []
        finally:
            self._spent += time.monotonic() - began
        if not found and pixels.std() > BLANK:
            losses.add(LossKind.PICTURE, place, "OCR found no text in it")
        return list(self._elements(found, number, losses))

    def _elements(self, found: list[ReadLine], number: int, losses: Losses) -> Iterator[Element]:
        """The paragraphs of the lines that the engine is sure of."""
        least = self._options.confidence
        sure = [line for line in found if line.confidence >= least and any(map(str.isalnum, line.text))]
        if doubtful := len(found) - len(sure):
            detail = f"{plural(doubtful, 'line')} left out: OCR was less sure than {least:g} of the text"
            losses.add(LossKind.LOW_CONFIDENCE, f"page {number}", detail, count=doubtful)
        regions = ordered(sure)
        self._words.learn(line.text for line in sure)
        for region in regions:
            for text in paragraphs(region, self._words):
                yield from parts(text, page=number)


def _engine(options: OcrOptions) -> Any:
    """The engine, which is imported and loaded when the first page needs it, and serves all later ones of this process."""
    key = options.engine, options.languages
    if key not in _engines:
        if options.engine == RAPIDOCR:
            from pipeline.parse.ocr.rapid import Rapid

            _engines[key] = Rapid()
        else:
            from pipeline.parse.ocr.tesseract import Tesseract

            _engines[key] = Tesseract(options.languages)
    return _engines[key]


def _pixels(picture: Image) -> NDArray[np.uint8]:
    """Rows, columns and three equal channels of a picture: engines read shades of grey."""
    longest, shortest = max(picture.size), max(1, min(picture.size))
    if longest > MAX_RATIO * shortest:
        raise ValueError(f"a strip of {picture.width} x {picture.height} pixels")
    import numpy as np

    grey = np.asarray(picture.convert("L"))
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside once `seconds` have passed, between two calls of native code; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    left, every = signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # someone else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), every)
