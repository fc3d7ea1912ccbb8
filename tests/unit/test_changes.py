"""Changes of real folders: which ones matter, when a burst is over, and that a folder that is replaced is noticed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path, PurePosixPath

import pytest

from pipeline.errors import SourceError
from pipeline.settings import Settings
from pipeline.sources.changes import GATHER_MAX_S, Changes, Interest
from pipeline.sources.discover import Patterns
from pipeline.sources.mounts import type_of
from pipeline.sources.uris import uri_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "pages"
    made.mkdir()
    return made.resolve()


def patterns(*include: str, exclude: tuple[str, ...] = ()) -> Patterns:
    return Patterns(include, exclude, Settings.model_fields["ignore"].default)


#: What editors, office programs and browsers leave beside documents while they save.
TEMPORARY = (
    ".page.md.swp", ".page.md.swx", "page.md~", "~$report.docx", "page.md.tmp", "film.pdf.crdownload", "film.pdf.part",
    ".#page.md", ".~lock.report.odt#", ".goutputstream-A1B2C3", ".DS_Store", "Thumbs.db", "__pycache__/x.md", ".git/index",
)  # fmt: skip


@pytest.mark.parametrize("name", TEMPORARY)
def test_temporary_files_do_not_matter(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    assert not Interest(root, patterns()).wants(str(path))  # it is gone again
    path.write_text("x")
    assert not Interest(root, patterns()).wants(str(path))


def test_patterns_count_for_files_and_folders_that_are_gone_always_do(root: Path) -> None:
    interest = Interest(root, patterns("*.md", exclude=("draft*",)), [uri_of(root / "other")])
    for name in ("a.md", "a.txt", "draft.md", "sub/b.md", "other/c.md", "a.md.meta.json", "metadata.csv"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    wanted = {"a.md", "sub/b.md", "a.md.meta.json", "metadata.csv", "sub", "gone", "gone.md"}
    unwanted = {"a.txt", "draft.md", "draft-gone.md", "other", "other/c.md", "../elsewhere.md"}
    assert {name for name in wanted | unwanted if interest.wants(str(root / name))} == wanted
    assert not interest.wants(str(root / "sub"), modified=True)  # as every file in it is reported by itself
    assert interest.wants(str(root))


def due_within(changes: Changes, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not changes.due() and not changes.lost and (left := deadline - time.monotonic()) > 0:
        changes.wait(left)
    return changes.due()


@pytest.mark.parametrize("poll", [False, True], ids=["notified", "polled"])
def test_a_burst_is_one_change(root: Path, poll: bool) -> None:
    (root / "old.md").write_text("old")
    with Changes(Interest(root, patterns()), poll=poll, poll_every_s=0.2) as changes:
        assert not due_within(changes, 1.0)
        for number in range(1000):
            (root / f"{number}.md").write_text("new")
        assert due_within(changes, 20.0)
        assert changes.take() >= 1000
        assert not due_within(changes, 1.0)
        (root / "sub").mkdir()
        (root / "old.md").rename(root / "sub" / "moved.md")
        assert due_within(changes, 10.0)


def test_a_file_that_is_always_written_to_does_not_defer_changes_forever(root: Path) -> None:
    with Changes(Interest(root, patterns())) as changes:
        began = time.monotonic()
        while not changes.due() and time.monotonic() < began + 3 * GATHER_MAX_S:
            (root / "log.txt").write_text(str(time.monotonic()))
            time.sleep(0.1)
        assert changes.due()
        assert time.monotonic() - began >= GATHER_MAX_S - 1


def test_a_folder_that_is_replaced_is_lost(root: Path) -> None:
    with Changes(Interest(root, patterns())) as changes:
        root.rename(root.with_name("away"))
        root.mkdir()
        changes.wait(10)
        deadline = time.monotonic() + 10
        while not changes.lost and time.monotonic() < deadline:
            changes.wait(1)
            changes.take()
        assert changes.lost
        changes.check()  # which is no error
    shutil.rmtree(root)
    with pytest.raises(SourceError, match="cannot read"):
        Changes(Interest(root, patterns()))


def test_a_single_file_is_watched_through_its_replacement(root: Path) -> None:
    page = root / "page.md"
    page.write_text("old")
    with Changes(Interest(page, patterns())) as changes:
        for number in range(2):
            (root / "other.md").write_text("no matter")
            assert not due_within(changes, 1.0)
            (root / "page.tmp").write_text(f"new {number}")
            os.replace(root / "page.tmp", page)
            assert due_within(changes, 10.0)
            changes.take()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/pages", ""),
        ("/mnt/share/pages", "nfs4"),
        ("/mnt/share/disk/pages", ""),
        ("/mnt/ntfs/pages", ""),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/mnt/sharepoint", ""),
        ("/Volumes/Team/x", "smbfs"),
        ("/mnt/over/x", "cifs"),
    ],
)
def test_network_file_systems_are_recognized(path: str, kind: str) -> None:
    mounts = [
        ("/", "ext4"), ("/mnt/share", "nfs4"), ("/mnt/share/disk", "xfs"), ("/mnt/ntfs", "fuseblk"), ("/mnt/ssh", "fuse.sshfs"),
        ("/Volumes/Team", "SMBFS"), ("/mnt/over", "ext4"), ("/mnt/over", "cifs"),
    ]  # fmt: skip
    assert type_of(PurePosixPath(path), mounts) == kind
