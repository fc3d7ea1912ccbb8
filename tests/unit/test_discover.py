"""Discovery: what is found, what is left out, and what survives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.sources.discover import Omitted, Patterns, discover
from pipeline.sources.uris import path_of, uri_of
from pipeline.types import SourceFile


def path_at(item: SourceFile) -> Path:
    assert item.path is not None
    return item.path


def names(root: Path, **patterns: object) -> set[str]:
    found = discover([root], Patterns(**patterns))  # type: ignore[arg-type]
    return {str(path_at(item).relative_to(root.resolve())) for item in found if isinstance(item, SourceFile)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a.md", "b.txt", "sub/c.md", "sub/deep/d.html", ".git/config", ".hidden.md", "node_modules/x.js"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def test_finds_regular_files_of_all_depths_without_hidden_and_ignored_ones(tree: Path) -> None:
    assert names(tree, ignore=("node_modules",)) == {"a.md", "b.txt", "sub/c.md", "sub/deep/d.html"}


def test_hidden_files_on_request(tree: Path) -> None:
    assert {".git/config", ".hidden.md"} <= names(tree, hidden=True)


def test_patterns_match_names_and_paths(tree: Path) -> None:
    assert names(tree, include=("*.md",)) == {"a.md", "sub/c.md"}
    assert names(tree, include=("sub/*",)) == {"sub/c.md", "sub/deep/d.html"}
    assert names(tree, exclude=("sub/*", "*.js")) == {"a.md", "b.txt"}


def test_a_symlink_out_of_the_root_is_refused_and_one_inside_followed(tree: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (tree / "out.txt").symlink_to(secret)
    (tree / "in.txt").symlink_to(tree / "a.md")
    (tree / "loop").symlink_to(tree)
    (tree / "dangling").symlink_to(tree / "nothing")
    found = list(discover([tree], Patterns()))
    omitted = {Path(item.name).name: item.why for item in found if isinstance(item, Omitted)}
    assert set(omitted) == {"out.txt", "loop", "dangling"}
    assert "leaves its root" in omitted["out.txt"]
    assert "in.txt" in {path_at(item).name for item in found if isinstance(item, SourceFile)}


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR], ids=["pipe", "socket", "device"])
def test_what_is_no_file_is_named_as_left_out(tree: Path, kind: int) -> None:
    """Reading it would wait for ever, or never end."""
    try:
        os.mknod(tree / "special", kind | 0o600, os.makedev(1, 5))  # as a device: /dev/zero
    except PermissionError:
        pytest.skip("only root can make a device")
    assert [item.why for item in discover([tree], Patterns()) if isinstance(item, Omitted)] == ["is not a regular file"]


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9 %20#?.txt"
    Path(os.fsdecode(raw)).write_text("x")
    (found,) = discover([tmp_path], Patterns())
    assert isinstance(found, SourceFile)
    assert found.uri.isascii()
    assert os.fsencode(path_of(found.uri)) == os.fsencode(path_at(found))
    assert path_of(uri_of(path_at(found))).read_text() == "x"


def test_overlapping_roots_give_each_file_once(tree: Path) -> None:
    for roots in ([tree, tree / "sub"], [tree / "sub", tree], [tree, tree]):
        paths = [item.path for item in discover(roots, Patterns()) if isinstance(item, SourceFile)]
        assert len(paths) == len(set(paths)) == 5


def test_a_file_can_be_a_root(tree: Path) -> None:
    assert [path_at(item).name for item in discover([tree / "a.md"], Patterns()) if isinstance(item, SourceFile)] == ["a.md"]


def test_a_missing_root_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read .*nothing: No such file"):
        list(discover([tmp_path / "nothing"], Patterns()))


def test_many_files_are_streamed(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text("x")
    stream = discover([tmp_path], Patterns())
    next(stream)
    (tmp_path / "later").mkdir()
    assert len(list(stream)) == 49
