"""What must hold of any file at all; and `python -m tests.fuzzing KIND FOLDER [libFuzzer options]`, which looks for files for
which it does not, led by the code they reach. That needs atheris, which `make env` does not install."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from pipeline.errors import DocumentError
from pipeline.parse import parse
from pipeline.parse.gate import Limits, inspect
from pipeline.types import Element, Reason
from tests.documents import write

LIMITS = Limits(max_file_bytes=1 << 20, zip_max_part_bytes=1 << 20)

_UNWANTED = re.compile("[\ud800-\udfff\0]")


def read(path: Path, name: str) -> list[Element] | DocumentError:
    """What becomes of a file: its elements, or why there are none; anything else is raised."""
    try:
        return list(parse(path, name, inspect(path, name, LIMITS)).elements)
    except DocumentError as error:
        return error


def check(found: list[Element] | DocumentError) -> None:
    """A reason that people know, or elements that can be stored."""
    if isinstance(found, DocumentError):
        assert found.reason in Reason
        assert "\n" not in found.detail.strip()
        return
    for element in found:
        assert not _UNWANTED.search(element.text + element.header), element
        assert element.level >= 0
        assert element.page is None or element.page >= 1
        if element.char_start is not None:
            assert 0 <= element.char_start <= (element.char_end or 0)


def main() -> None:
    """Fuzz the parser of one kind of document, beginning with a good one; FOLDER keeps what reached new code."""
    import atheris

    kind, folder, *options = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    write(Path(folder), kind)
    blob = Path(tempfile.mkdtemp()) / "blob"

    def once(content: bytes) -> None:
        blob.write_bytes(content)
        check(read(blob, f"a.{kind}"))

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], folder, *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
