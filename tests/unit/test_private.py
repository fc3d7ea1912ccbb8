"""The data folder is closed to other accounts, and pages that are written for people are not."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.files.private import keeping_umask, restrict
from pipeline.reports.write import write_page
from pipeline.settings import Settings
from workers.deploy.doctor import permissions


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("shared", "expected"), [(False, 0o700), (True, 0o2770)])
def test_a_new_data_folder(tmp_path: Path, shared: bool, expected: int) -> None:
    settings = Settings(data_dir=tmp_path / "new" / "data", data_shared=shared).prepare()
    assert mode(settings.data_dir) == expected
    assert permissions(settings, tmp_path / ".env").state == "ok"


@pytest.mark.parametrize(
    ("shared", "found", "who"),
    [
        (False, 0o755, "every account of this host"),
        (False, 0o750, "every account of its group"),
        (True, 0o775, "every account of this host"),
        (True, 0o770, ""),
    ],
)
def test_a_folder_that_is_open_stays_so_and_doctor_tells_of_it(tmp_path: Path, shared: bool, found: int, who: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(found)
    settings = Settings(data_dir=tmp_path / "data", data_shared=shared).prepare()
    assert mode(settings.data_dir) == found
    finding = permissions(settings, tmp_path / ".env")
    assert finding.state == ("warning" if who else "ok")
    assert who in finding.text
    if who:
        assert finding.mend.startswith("chmod -R ")
        subprocess.run(shlex.split(finding.mend.partition(" (")[0]), check=True)
        assert permissions(settings, tmp_path / ".env").state == "ok"


def test_files_of_a_command_are_private_but_not_its_pages(tmp_path: Path) -> None:
    with keeping_umask():
        restrict(Settings().umask)
        restrict(Settings().umask)
        (tmp_path / "private").touch()
        write_page("<p>", tmp_path / "page.html")
    (tmp_path / "afterwards").touch()
    assert {path.name: mode(path) for path in tmp_path.iterdir()} == {"private": 0o600, "page.html": 0o644, "afterwards": 0o644}
