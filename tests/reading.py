"""Reads a document as a load does: gate and parser, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Element, ElementKind, Loss, LossKind


@dataclass(frozen=True)
class Read:
    """A document that has been read to its end."""

    media_type: str
    title: str
    elements: list[Element]
    losses: tuple[Loss, ...]
    metadata: dict[str, str]

    @property
    def text(self) -> str:
        """All texts, each row of a table below its header."""
        return "\n".join(f"{e.header}\n{e.text}" if e.header else e.text for e in self.elements)

    @property
    def texts(self) -> list[str]:
        """The text of each element."""
        return [e.text for e in self.elements]

    @property
    def lost(self) -> dict[LossKind, int]:
        """Number of losses by kind."""
        counts: dict[LossKind, int] = {}
        for loss in self.losses:
            counts[loss.kind] = counts.get(loss.kind, 0) + loss.count
        return counts

    def of(self, kind: ElementKind) -> list[str]:
        """The texts of one kind."""
        return [e.text for e in self.elements if e.kind is kind]


def read(path: Path, name: str = "") -> Read:
    """Read the file at `path`, whose original name is `name`."""
    media_type = inspect(path, name or path.name, Limits())
    parsed = parse(path, name or path.name, media_type)
    elements = list(parsed.elements)
    return Read(media_type, parsed.title, elements, parsed.losses.all(), parsed.metadata)


def read_bytes(folder: Path, name: str, data: bytes | str) -> Read:
    """Read a file with this content."""
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read(path)
