"""Copies of files with holes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pipeline.files.copy import WINDOW, copy_file, copy_folder


def test_a_copy_has_the_bytes_and_the_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(os.urandom(1000))
        file.seek(50 * WINDOW + 7)
        file.write(b"in the middle")
        file.truncate(100 * WINDOW + 3)
    digest = hashlib.sha256()
    assert copy_file(source, target, digest.update) == 100 * WINDOW + 3
    assert target.read_bytes() == source.read_bytes()
    assert digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()
    assert target.stat().st_blocks * 512 <= 4 * WINDOW


def test_a_folder_is_copied_with_all_below_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "in" / "deep").mkdir(parents=True)
    (source / "in" / "deep" / "file").write_bytes(b"x")
    (source / "empty").write_bytes(b"")
    copy_folder(source, tmp_path / "target")
    assert (tmp_path / "target" / "in" / "deep" / "file").read_bytes() == b"x"
    assert (tmp_path / "target" / "empty").read_bytes() == b""
