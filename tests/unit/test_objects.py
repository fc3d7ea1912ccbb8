"""Objects as documents: found, told apart by version, and copied as one version."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import ConfigError, DocumentError, SourceError
from pipeline.sources.discover import Omitted, Patterns, check_root, discover, exists
from pipeline.sources.uris import folder_of, is_url, name_of, object_path, object_uri, root_uri
from pipeline.staging.local import LocalStaging
from pipeline.types import SourceFile

NAMES = ("a.md", "b é #?%.txt", "sub/c.md", "sub/deep/d.html", ".hidden.md", "sub/node_modules/x.js")


@pytest.fixture(params=["memory", "s3"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL below which there are NAMES, each with its name as content."""
    place = f"kb-unit/{uuid.uuid4().hex}"
    if request.param == "s3":
        for name, value in request.getfixturevalue("s3").items():
            monkeypatch.setenv(name, value)
    files = fsspec.filesystem(request.param)
    for name in NAMES:
        files.pipe_file(f"{place}/{name}", name.encode())
    return f"{request.param}://{place}"


def found(url: str, patterns: Patterns | None = None) -> dict[str, SourceFile]:
    items = list(discover([url], patterns or Patterns(ignore=("node_modules",))))
    assert not [item for item in items if isinstance(item, Omitted)]
    beginning = f"{root_uri(url)}/"
    return {
        object_path(item.uri)[1].partition(object_path(beginning)[1])[2].strip("/"): item
        for item in items
        if isinstance(item, SourceFile)
    }


def test_objects_are_found_as_files_are(url: str) -> None:
    objects = found(url)
    assert set(objects) == {"a.md", "b é #?%.txt", "sub/c.md", "sub/deep/d.html"}
    assert all(item.path is None and item.uri.isascii() and item.size == len(name.encode()) for name, item in objects.items())
    assert set(found(url + "/", Patterns(include=("*.md",)))) == {"a.md", "sub/c.md"}
    assert set(found(url, Patterns(exclude=("sub/*",), hidden=True))) == {"a.md", "b é #?%.txt", ".hidden.md"}
    (one,) = discover([f"{url}/sub/c.md"], Patterns())
    assert isinstance(one, SourceFile)
    assert one.uri == objects["sub/c.md"].uri


def test_names_and_folders_come_from_the_uri(url: str) -> None:
    objects = found(url)
    assert name_of(objects["b é #?%.txt"].uri) == "b é #?%.txt"
    assert folder_of(objects["sub/deep/d.html"].uri) == f"{url}/sub/deep"


def test_an_object_is_copied_and_another_version_has_another_stamp(url: str, tmp_path: Path) -> None:
    before = found(url)["a.md"]
    staging = LocalStaging(tmp_path / "staging")
    first = staging.put(before)
    with staging.blob(first.content_hash) as copy:
        assert copy.read_bytes() == b"a.md"
    assert first.source == before
    assert found(url)["a.md"] == before

    protocol, path = object_path(before.uri)
    fsspec.filesystem(protocol).pipe_file(path, b"A.MD")  # the same length
    after = found(url)["a.md"]
    assert (after.size, after.uri) == (before.size, before.uri)
    assert after.mtime_ns != before.mtime_ns
    assert staging.put(after).content_hash != first.content_hash

    fsspec.filesystem(protocol).rm_file(path)
    with pytest.raises(DocumentError) as error:
        staging.put(after)
    assert error.value.reason == "unreadable"
    assert not exists(after.uri)
    assert exists(found(url)["sub/c.md"].uri)


def test_what_cannot_be_listed_is_said(url: str) -> None:
    with pytest.raises(SourceError, match="cannot list"):
        list(discover([f"{url}/nothing/here"], Patterns()))


def test_protocols() -> None:
    assert is_url("s3://bucket/x")
    assert not is_url("/a/b")
    assert not is_url("file:///a/b")
    with pytest.raises(ConfigError, match="nosuch://"):
        check_root("nosuch://x")
    assert object_path(object_uri("s3", "b/ä b%")) == ("s3", "b/ä b%")


def test_a_url_is_loaded_as_a_folder_is(url: str, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from workers.cli import run

    assert run(["load", url, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["added"]["files"], planned["added"]["bytes"]) == (4, sum(len(name.encode()) for name in NAMES[:4]))
