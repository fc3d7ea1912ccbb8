"""A page goes where it is wanted: into a file at once, through a link, down a pipe."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.reports.write import write_page


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_page("old", target)
    write_page("<p>größer</p>", target)
    assert target.read_text("utf-8") == "<p>größer</p>"
    (tmp_path / "new").touch()
    assert target.stat().st_mode == (tmp_path / "new").stat().st_mode
    with pytest.raises(ConfigError, match="No such file"):
        write_page("x", tmp_path / "nowhere" / "page.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="directory"):
        write_page("x", tmp_path / "folder")
    with pytest.raises(UnicodeEncodeError):
        write_page("\ud800", target)
    assert target.read_text("utf-8") == "<p>größer</p>"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "new", "page.html"]


def test_a_file_that_others_may_not_read_stays_so(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("old")
    target.chmod(0o600)
    write_page("new", target)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o600)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "page.html", tmp_path / "link.html"
    if there:
        target.write_text("old")
    link.symlink_to("far/page.html")
    write_page("new", link)
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_page("through", pipe)
        assert read.result(timeout=30) == "through"
    assert pipe.is_fifo()


def test_devices_stay_devices() -> None:
    write_page("gone", Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
