"""RapidOCR: the models of PaddleOCR on onnxruntime, in this process; they come with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.parse.ocr.lines import ReadLine, turned

#: A piece of text that is this many times as high as wide lies on its side.
TALL = 1.5
#: Maximum side of the picture in which lines are looked for, in pixels; they are read at the full size.
DETECTION_SIDE = 1600
#: Lines whose certainty is lower are not reported by the engine at all.
LEAST = 0.0


class Rapid:
    """An engine in memory, for many pages."""

    def __init__(self, languages: str = "") -> None:
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(1)
        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
        detection = {"Det.limit_type": "max", "Det.limit_side_len": DETECTION_SIDE}
        quiet = {"Global.log_level": "critical", "Global.text_score": LEAST, "Global.use_preprocess_img": False}
        self._engine: Any = RapidOCR(params=threads | detection | quiet)

    def lines(self, pixels: NDArray[np.uint8], timeout_s: float) -> list[ReadLine]:
        """The lines on a page, upright; `pixels` are rows, columns and three equal channels.

        `timeout_s` is the caller's matter: between two calls of the models any exception of a signal handler ends this.
        """
        from rapidocr.main import RapidOCRError

        try:
            crops, found = self._engine.detect_and_crop(*self._engine.preprocess_img(pixels))
            turns = self._engine.cls_and_rotate(crops)[1].cls_res
        except RapidOCRError:  # it says so where it finds no line
            return []
        places = [_Place.of(box) for box in found.boxes]
        page = _turn_of(places, [score if "180" in label else -score for label, score in turns])
        # The classifier errs on some lines, and a page is turned as a whole.
        upright = [np.ascontiguousarray(np.rot90(crop, 2)) if page[1] else crop for crop in crops]
        try:
            read = self._engine.recognize_txt(upright)
        except RapidOCRError:
            return []
        shape = pixels.shape[0], pixels.shape[1]
        return [
            ReadLine(text, float(score), *turned((place.left, place.top, place.right, place.bottom), shape, *page))
            for place, text, score in zip(places, read.txts, read.scores, strict=True)
            if text.strip()
        ]


@dataclass(frozen=True, slots=True)
class _Place:
    """Of a line on the page as it is, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, box: Any) -> _Place:
        """The place that contains the corners of `box`."""
        across, down = zip(*box, strict=True)
        return cls(float(min(across)), float(min(down)), float(max(across)), float(max(down)))

    @property
    def on_its_side(self) -> bool:
        """Whether the line runs down or up; the engine then turns it counter-clockwise to read it."""
        return self.bottom - self.top >= TALL * (self.right - self.left)


def _turn_of(places: Sequence[_Place], turns: Sequence[float]) -> tuple[bool, bool]:
    """Whether a page lies on its side, and whether it then stands on its head; long lines count more."""
    lengths = [max(place.right - place.left, place.bottom - place.top) for place in places]
    side = sum(length if place.on_its_side else -length for length, place in zip(lengths, places, strict=True)) > 0
    votes = zip(lengths, places, turns, strict=True)
    return side, sum(length * turn for length, place, turn in votes if place.on_its_side == side) > 0
