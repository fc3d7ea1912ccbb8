"""Files of a commit: found, told apart by their content, and copied from a mirror; by the real git over file and HTTPS."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.errors import ConfigError, DocumentError, SourceError
from pipeline.ledger import Ledger
from pipeline.ledger.browse import Listing
from pipeline.metadata import Given
from pipeline.settings import load_settings
from pipeline.sources.discover import Omitted, Patterns, check_root, exists
from pipeline.sources.git import Git
from pipeline.sources.gitprogram import GitProgram
from pipeline.sources.remotes import Remotes
from pipeline.sources.repositories import repository
from pipeline.sources.uris import folder_of, is_url, name_of, root_of, root_uri
from pipeline.staging.local import LocalStaging
from pipeline.steps.load import Load, LoadCounts
from pipeline.steps.remove import vanished
from pipeline.steps.scope import Listed, Scope
from pipeline.types import DocumentState, Reason, SourceFile
from tests.repository import ENVIRONMENT, TestRepository, https_server
from tests.website import make_certificate


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def repo(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> TestRepository:
    if shutil.which("git") is None or shutil.which("openssl") is None:
        unavailable("no git or no openssl on this machine")
    return TestRepository(tmp_path / "repo")


@contextmanager
def opened(folder: Path, program: GitProgram | None = None) -> Iterator[Git]:
    made = Git(folder / "mirrors", program or GitProgram())
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def git(tmp_path: Path) -> Iterator[Git]:
    with opened(tmp_path) as made:
        yield made


def files(git: Git, location: str, patterns: Patterns | None = None) -> dict[str, SourceFile]:
    """The listed files by their URIs, without what they all begin with."""
    found = [item for item in git.listed(location, patterns or Patterns()) if isinstance(item, SourceFile)]
    return {item.uri.removeprefix(repository(location).base): item for item in found}


def text_of(git: Git, file: SourceFile, folder: Path) -> str:
    digest, copied = git.copy(file, folder / "copy")
    data = (folder / "copy").read_bytes()
    assert (digest, copied) == (hashlib.sha256(data).hexdigest(), file)
    return data.decode()


@pytest.mark.parametrize(
    ("location", "url", "ref", "folder", "uri"),
    [
        ("git+https://Host/a/b.git", "https://host/a/b.git", "", "", "git+https://host/a/b.git#"),
        ("git+https://host:8443/b.git@v1.2#docs/", "https://host:8443/b.git", "v1.2", "docs", "git+https://host:8443/b.git@v1.2#/docs"),
        ("git+ssh://git@host/b.git@feature/x", "ssh://git@host/b.git", "feature/x", "", "git+ssh://git@host/b.git@feature/x#"),
        ("git+file:///srv/b@HEAD", "file:///srv/b", "", "", "git+file:///srv/b@HEAD#"),
        ("git+file:///srv/me@work/b@HEAD", "file:///srv/me@work/b", "", "", "git+file:///srv/me@work/b@HEAD#"),
        ("git+file:///srv/a%20b#c d", "file:///srv/a%20b", "", "c d", "git+file:///srv/a%20b#/c%20d"),
        ("git+https://[::1]/b.git", "https://[::1]/b.git", "", "", "git+https://[::1]/b.git#"),
    ],
)  # fmt: skip
def test_a_url_names_repository_ref_and_folder(location: str, url: str, ref: str, folder: str, uri: str) -> None:
    found = repository(location)
    assert (found.url, found.ref, found.folder, found.uri) == (url, ref, folder, uri)
    assert is_url(location)
    assert root_uri(root_of(location)) == root_uri(root_of(uri)) == uri  # a URI can be loaded itself


@pytest.mark.parametrize(
    "location",
    [
        "git+http://host/b.git", "git+ext://sh%20-c%20true", "git+git://host/b", "git+https:///b", "git+https://host",
        "git+file://host/b", "git+ssh://-oProxyCommand=x/b", "git+https://host/b@--upload-pack=x", "git+https://host/b@a..b",
        "git+https://host/b@", "git+https://host/b#../x", "git+https://host/b?token=hidden", "git+https://host/a%0Ab",
        "git+https://host/b@a%20b", "git+file:///b@-x",
    ],
)  # fmt: skip
def test_urls_that_are_refused(location: str) -> None:
    with pytest.raises(ConfigError) as raised:
        root_of(location)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("location", ["git+https://me:hidden@host/b", "git+https://hidden@host/b", "git+ssh://me:hidden@host/b"])
def test_passwords_in_urls_are_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(ConfigError, match="KB_GIT_CREDENTIALS") as raised:
        root_of(location)
    assert "hidden" not in str(raised.value)


def test_the_files_of_a_commit(repo: TestRepository, git: Git, tmp_path: Path) -> None:
    commit = repo.commit(
        {"a.md": "A", "docs/b #@é.txt": "B", "docs/deep/c.md": "C", ".hidden": "x", "empty.txt": ""}, at=1_600_000_000
    )
    repo.write("later.md", "not committed")
    found = files(git, repo.url)
    assert set(found) == {"/a.md", "/docs/b%20#@%C3%A9.txt", "/docs/deep/c.md", "/empty.txt"}
    one = found["/docs/b%20#@%C3%A9.txt"]
    assert (name_of(one.uri), folder_of(one.uri)) == ("b #@é.txt", f"{repo.url}#/docs")
    assert (one.size, one.path, one.modified) == (1, None, 1_600_000_000.0)
    assert dict(one.facts) == {"git_commit": commit, "git_path": "docs/b #@é.txt"}
    assert [text_of(git, file, tmp_path) for file in found.values()] == ["A", "B", "C", ""]
    assert not list((tmp_path / "mirrors").glob("*/hooks/*"))
    assert not exists(one.uri)  # what is not in the tree of the commit is gone


def test_a_folder_a_file_and_patterns(repo: TestRepository, git: Git) -> None:
    repo.commit({"a.md": "A", "docs/b.md": "B", "docs/x.txt": "X", "docs2/c.md": "C", "docs/node_modules/d.md": "D"})
    assert set(files(git, f"{repo.url}#docs", Patterns(ignore=("node_modules",)))) == {"/docs/b.md", "/docs/x.txt"}
    assert set(files(git, repo.url, Patterns(include=("docs/*.md",), exclude=("*d.md",)))) == {"/docs/b.md"}
    assert set(files(git, f"{repo.url}#docs", Patterns(include=("b.md",)))) == {"/docs/b.md"}
    assert set(files(git, f"{repo.url}#docs/x.txt")) == {"/docs/x.txt"}
    with pytest.raises(SourceError, match="no folder or file 'nowhere'"):
        files(git, f"{repo.url}#nowhere")


def test_branches_tags_and_commits(repo: TestRepository, git: Git, tmp_path: Path) -> None:
    first = repo.commit({"a.md": "one"})
    repo.git("tag", "--annotate", "--message=x", "v1")
    repo.git("branch", "feature/main")  # `ls-remote main` would list it, too
    repo.commit({"a.md": "two"})
    for ref, text in (
        ("main", "two"),
        ("v1", "one"),
        ("feature/main", "one"),
        (first, "one"),
        ("refs/heads/main", "two"),
        ("HEAD", "two"),
    ):
        (file,) = files(git, f"{repo.url}@{ref}").values()
        assert text_of(git, file, tmp_path) == text, ref
    for ref in ("nothing", "0" * 40, "ma"):
        with pytest.raises(SourceError, match="cannot read"):
            files(git, f"{repo.url}@{ref}")


def test_links_submodules_and_lfs_are_named(repo: TestRepository, git: Git, tmp_path: Path) -> None:
    commit = repo.commit({"a.md": "A", "big.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"})
    (repo.folder / "link.md").symlink_to("/etc/passwd")
    (repo.folder / "line\nend.md").write_text("x")
    repo.git("add", "--all")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repo.git("commit", "--quiet", "--message=x")
    found = list(git.listed(repo.url, Patterns()))
    omitted = {item.uri.rpartition("/")[2]: item.why for item in found if isinstance(item, Omitted)}
    assert omitted == {"link.md": "is a symlink", "line%0Aend.md": "has a line break in its name", "module": "is a submodule"}
    (pointer,) = (item for item in found if isinstance(item, SourceFile) and item.uri.endswith("big.bin"))
    with pytest.raises(DocumentError, match="LFS") as raised:
        git.copy(pointer, tmp_path / "copy")
    assert raised.value.reason is Reason.UNSUPPORTED


def test_a_repository_that_cannot_be_read(repo: TestRepository, git: Git, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no default branch"):  # there is no commit yet
        files(git, repo.url)
    with pytest.raises(SourceError, match="cannot read git\\+file:///nowhere"):
        files(git, "git+file:///nowhere")


def test_without_git(repo: TestRepository, git: Git, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_root(repo.url)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="git is not installed"):
        files(git, repo.url)


def test_an_unchanged_commit_is_not_fetched_again(repo: TestRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    run = GitProgram.run

    def counted(self: GitProgram, folder: Path, *arguments: str, timeout_s: float = 60) -> bytes:
        calls.append(arguments[0])
        return run(self, folder, *arguments, timeout_s=timeout_s)

    monkeypatch.setattr(GitProgram, "run", counted)
    repo.commit({"a.md": "A"})
    for _ in range(2):
        with opened(tmp_path) as git:
            assert files(git, repo.url)
        assert calls.count("fetch") == 1
    repo.commit({"a.md": "B"})
    with opened(tmp_path) as git:
        assert files(git, repo.url)
        assert calls.count("fetch") == 2
        repo.commit({"a.md": "C"})
        (file,) = files(git, repo.url).values()  # a load sees one commit, however long it takes
        assert text_of(git, file, tmp_path) == "B"


def test_only_one_commit_is_fetched(repo: TestRepository, git: Git, tmp_path: Path) -> None:
    for number in range(5):
        repo.commit({"a.md": f"{number}"})
    files(git, repo.url)
    (mirror,) = (path for path in (tmp_path / "mirrors").iterdir() if path.is_dir())
    counted = subprocess.run(
        ["git", f"--git-dir={mirror}", "rev-list", "--all", "--count"], capture_output=True, text=True, check=True
    )
    assert counted.stdout.strip() == "1"


def test_a_fetch_that_was_killed_is_no_obstacle(repo: TestRepository, tmp_path: Path) -> None:
    repo.commit({"a.md": "A"})
    with opened(tmp_path) as git:
        files(git, repo.url)
    (mirror,) = (path for path in (tmp_path / "mirrors").iterdir() if path.is_dir())
    (kept,) = (mirror / "refs" / "kb").iterdir()
    for path in (mirror / "shallow.lock", kept.with_name(f"{kept.name}.lock")):
        path.touch()
    repo.commit({"a.md": "B", "b.md": "B"})
    with opened(tmp_path) as git:
        assert len(files(git, repo.url)) == 2


def test_over_https_with_a_password_from_a_file(repo: TestRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    repo.commit({"a.md": "A"})
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate[0]))
    with https_server(tmp_path, *certificate, password="hidden") as (port, asked):
        location = f"git+https://127.0.0.1:{port}/repo/.git@main#sub"
        with pytest.raises(SourceError, match="ls-remote"):
            files(Git(tmp_path / "none", GitProgram()), location)
        secret = tmp_path / "it's secret"
        secret.write_text(f"https://reader:hidden@127.0.0.1:{port}\n")
        for text in ("B", "C"):
            repo.commit({"sub/b.md": text})
            with opened(tmp_path, GitProgram(secret)) as git:
                (file,) = files(git, location).values()
                assert text_of(git, file, tmp_path) == text
        assert {one.partition("?")[0] for one in asked if "POST" in one} == {"POST /repo/.git/git-upload-pack"}
    kept = [path.read_bytes() for path in (tmp_path / "mirrors").rglob("*") if path.is_file()]
    assert kept
    assert not [data for data in kept if b"hidden" in data]


class Loads:
    """Loads of a repository, with everything staged counted as indexed at once."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.ledger = ledger
        self.staging = LocalStaging(folder / "staging")
        self.settings = load_settings(data_dir=folder / "data")

    def run(self, location: str) -> tuple[LoadCounts, Listed]:
        scope = Scope([root_of(location)], Patterns())
        listed = Listed(scope.uris())
        with Remotes(self.settings) as remotes:
            step = Load(
                self.ledger, self.staging, "docs", "p" * 16, "e" * 16, max_file_bytes=1000, file_times=True, listed=listed,
                remotes=remotes,
            )  # fmt: skip
            return step.run(self.ledger.runs.start("docs"), scope, lambda _: None), listed

    def given(self, uri: str) -> Given:
        (found,) = self.ledger.intake.known([one.id for one in self.listing(uri)]).values()
        return Given.read(found.given)

    def listing(self, uri: str) -> list[Listing]:
        return self.ledger.browse.page("docs", {"uri": uri})


def test_a_load_stages_and_a_changed_commit_stages_what_changed(repo: TestRepository, tmp_path: Path, ledger: Ledger) -> None:
    loads = Loads(tmp_path, ledger)
    first = repo.commit({"a.md": "A", "b.md": "B", "big.txt": "x" * 1001, "empty.md": ""}, at=1_600_000_000)
    counts, _ = loads.run(repo.url)
    assert (counts.discovered, counts.added, counts.refused) == (4, 2, 1)
    assert loads.given(f"{repo.url}#/a.md").file == {"git_commit": first, "git_path": "a.md"}
    second = repo.commit({"b.md": "B2", "c.md": "C"}, at=1_700_000_000)
    counts, _ = loads.run(repo.url)
    assert (counts.added, counts.changed) == (1, 1)
    # The commit that a document is cited by is the one from which its content was read: other commits change nothing.
    assert loads.given(f"{repo.url}#/a.md").file["git_commit"] == first
    assert loads.given(f"{repo.url}#/a.md").times == {"modified": "2020-09-13T12:26:40Z"}
    assert loads.given(f"{repo.url}#/b.md").file["git_commit"] == second
    assert loads.given(f"{repo.url}#/b.md").times == {"modified": "2023-11-14T22:13:20Z"}


def test_a_renamed_file_vanishes_under_its_old_name(repo: TestRepository, tmp_path: Path, ledger: Ledger) -> None:
    loads = Loads(tmp_path, ledger)
    repo.commit({"docs/a.md": "A", "docs/b.md": "B"})
    loads.run(f"{repo.url}#docs")
    repo.git("mv", "docs/a.md", "docs/z.md")
    repo.commit()
    counts, listed = loads.run(f"{repo.url}#docs")
    assert (counts.added, counts.changed) == (1, 0)
    gone = vanished(ledger, "docs", Scope([f"{repo.url}#docs"], Patterns()), listed, 0.9)
    assert [one.uri for one in gone.documents] == [f"{repo.url}#/docs/a.md"]
    old, new = (loads.listing(f"{repo.url}#/docs/{name}.md")[0] for name in "az")
    assert ledger.intake.known([old.id])[old.id].content_hash == ledger.intake.known([new.id])[new.id].content_hash
    assert new.state == DocumentState.PENDING
    folder = ledger.browse.page("docs", {"folder": f"{repo.url}#/docs"})
    assert {one.uri.rpartition("/")[2] for one in folder} == {"a.md", "b.md", "z.md"}
