"""Subtitles (SRT and WebVTT): spoken text in paragraphs, each with the time at which it begins."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.parse.decode import open_text
from pipeline.parse.parsed import Parsed, Share, squeeze
from pipeline.types import Element

#: A paragraph ends with the first sentence that ends after this many characters, and at the latest after twice as many.
PARAGRAPH_CHARS = 300

_TIMES = re.compile(r"((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_VOICE = re.compile(r"<v(?:\.[^\s<>]{0,60})?\s+([^<>]{1,100})>")
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,200}>|<\d[^<>]{0,30}>|\{\\[^{}]{0,100}\}")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
#: Blocks of WebVTT without text.
_SILENT = ("WEBVTT", "NOTE", "STYLE", "REGION")


def parse_subtitles(path: Path, name: str) -> Parsed:
    """Paragraphs of the subtitles at `path`, such as `[00:01:05] And then we sailed.`"""
    share = Share()
    return Parsed("", _paragraphs(path, share), share)


def _paragraphs(path: Path, share: Share) -> Iterator[Element]:
    begin, texts, length = "", list[str](), 0
    for time, text in _cues(path, share):
        begin = begin or time
        if not texts or texts[-1] != text:  # rolling captions repeat the line above
            texts.append(text)
            length += len(text)
        if length > 2 * PARAGRAPH_CHARS or (length > PARAGRAPH_CHARS and _SENTENCE_END.search(text)):
            yield Element(f"[{begin}] {' '.join(texts)}")
            begin, texts, length = "", [], 0
    if texts:
        yield Element(f"[{begin}] {' '.join(texts)}")


def _cues(path: Path, share: Share) -> Iterator[tuple[str, str]]:
    """Times and texts of the cues; lines before the times of a cue are its name."""
    with open_text(path) as file:
        share.follow(file)
        time, lines, silent = "", list[str](), False
        for raw in file:
            line = raw.strip()
            if (found := _TIMES.match(line)) or not line:
                if found and lines and lines[-1].isdecimal():
                    lines.pop()  # without a blank line between them, the number of this cue
                if time and (text := squeeze(" ".join(lines))):
                    yield time, text
                time = found.group(1).replace(",", ".").rpartition(".")[0] if found else ""
                lines, silent = [], False
            elif not time and line.startswith(_SILENT):
                silent = True
            elif time and not silent:
                lines.append(html.unescape(_TAG.sub("", _VOICE.sub(r"\1: ", line))))
        if time and (text := squeeze(" ".join(lines))):
            yield time, text
