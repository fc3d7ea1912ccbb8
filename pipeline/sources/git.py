"""Lists and copies the files of one commit of a git repository, from a bare and shallow mirror; no work tree is needed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import DocumentError, SourceError
from pipeline.files.errors import translating
from pipeline.files.lock import FileLock
from pipeline.sources.addresses import public_addresses
from pipeline.sources.discover import Omitted, Patterns
from pipeline.sources.gitprogram import ASK_S, GitProgram
from pipeline.sources.repositories import Repository, repository
from pipeline.types import Reason, SourceFile

#: Bytes of one read while copying.
COPY_WINDOW = 1 << 20

#: How a file begins that Git LFS keeps elsewhere, and how long it can be.
LFS_BEGIN, LFS_MAX_BYTES = b"version https://git-lfs.github.com/spec/v1", 1024

#: Types of entries of a tree that are no files, by their modes.
_NO_FILES = {"160000": "is a submodule", "120000": "is a symlink"}

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Tree:
    """A commit that was fetched."""

    mirror: Path
    commit: str
    at: float  #: time of the commit, in seconds since the epoch


class Git:
    """Reads repositories. Each is fetched when it is first listed, unless its commit is the one that was fetched last."""

    def __init__(self, folder: Path, program: GitProgram) -> None:
        """`folder`: for the mirrors."""
        self._folder = folder
        self._program = program
        self._trees: dict[str, _Tree] = {}  #: by the beginning of the URIs of their files
        self._readers: dict[Path, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()  # of the readers

    def close(self) -> None:
        """End the programs that read files."""
        while self._readers:
            _end(self._readers.popitem()[1])

    def listed(self, location: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
        """Every wanted file of the commit that a URL means now.

        Raises SourceError where it cannot be fetched or has no such folder, ConfigError where git is not installed.
        """
        asked = repository(location)
        tree = self._tree(asked)
        is_file = self._kind(tree, asked.folder) == "blob"
        yield from self._entries(asked, tree, f"{asked.folder}/" if asked.folder and not is_file else "", patterns)

    def copy(self, file: SourceFile, target: Path) -> tuple[str, SourceFile]:
        """Copy a listed file to `target`; return its sha256, and the file. Raises DocumentError."""
        base, _, path = file.uri.partition("#/")
        tree = self._trees[f"{base}#"]
        with self._lock, translating(target), target.open("wb") as writer:
            try:
                digest, head = self._read(tree, unquote_to_bytes(path), writer)
            except BaseException as error:
                if (reader := self._readers.pop(tree.mirror, None)) is not None:
                    _end(reader)  # it may have more of this file to say, which would be taken for the next one
                if isinstance(error, (BrokenPipeError, ValueError)):
                    raise DocumentError(Reason.UNREADABLE, f"git cannot read it: {error}") from error
                raise
        if file.size <= LFS_MAX_BYTES and head.startswith(LFS_BEGIN):
            raise DocumentError(Reason.UNSUPPORTED, "a Git LFS pointer: the content is not in the repository")
        return digest, file

    def _tree(self, asked: Repository) -> _Tree:
        """The commit that is meant, fetched if it is new; the same one for as long as this object is open."""
        if asked.base in self._trees:
            return self._trees[asked.base]
        mirror = self._folder / hashlib.sha256(asked.url.encode()).hexdigest()[:32]
        kept = f"refs/kb/{hashlib.sha256(asked.ref.encode()).hexdigest()[:32]}"
        with translating(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(mirror.with_suffix(".lock")):
            _unlock(mirror)
            self._program.run(mirror, "init", "--quiet", "--bare", "--template=", str(mirror))
            try:
                if self._program.public_only and (host := urlsplit(asked.url).hostname):
                    public_addresses(host)
                name, wanted = self._asked(mirror, asked)
                if self._commit(mirror, kept) != wanted:
                    self._program.run(
                        mirror, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                        "--end-of-options", asked.url, f"+{name}:{kept}", timeout_s=self._program.timeout_s,
                    )  # fmt: skip
            except SourceError as error:
                raise SourceError(f"cannot read {asked.base.removesuffix('#')}: {error}") from error
            commit = self._commit(mirror, kept)
        if not commit:
            raise SourceError(f"cannot read {asked.base.removesuffix('#')}: {asked.ref} is no commit")
        at = float(self._program.run(mirror, "log", "-1", "--format=%ct", commit, "--"))
        self._trees[asked.base] = tree = _Tree(mirror, commit, at)
        return tree

    def _asked(self, mirror: Path, asked: Repository) -> tuple[str, str]:
        """The name of what is to be fetched, and its commit as the server says."""
        if _COMMIT.fullmatch(asked.ref):
            return asked.ref, asked.ref
        # As git orders them: a tag goes before a branch of the same name.
        names = [asked.ref] if asked.ref.startswith("refs/") else [f"refs/tags/{asked.ref}", f"refs/heads/{asked.ref}"]
        names = names if asked.ref else ["HEAD"]
        patterns = [pattern for name in names for pattern in (name, f"{name}^{{}}")]
        output = self._program.run(mirror, "ls-remote", "--quiet", "--end-of-options", asked.url, *patterns, timeout_s=ASK_S)
        lines = (line.partition("\t") for line in output.decode("utf-8", "replace").splitlines())
        there = {name: commit for commit, _, name in lines}
        for name in names:
            if name in there:
                return name, there.get(f"{name}^{{}}", there[name])  # an annotated tag is an object of its own
        raise SourceError(f"there is no branch or tag {asked.ref!r}" if asked.ref else "it has no default branch, or no commits")

    def _commit(self, mirror: Path, name: str) -> str:
        """The commit of a name in the mirror; empty if there is none."""
        with suppress(SourceError):
            return self._program.run(mirror, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
        return ""

    def _kind(self, tree: _Tree, folder: str) -> str:
        """`tree` or `blob`: what is at a path. Raises SourceError where nothing is."""
        if not folder:
            return "tree"
        try:
            return self._program.run(tree.mirror, "cat-file", "-t", f"{tree.commit}:{folder}").decode().strip()
        except SourceError as error:
            raise SourceError(f"commit {tree.commit[:12]} has no folder or file {folder!r}") from error

    def _entries(self, asked: Repository, tree: _Tree, start: str, patterns: Patterns) -> Iterator[SourceFile | Omitted]:
        """The wanted files below a folder, whose path is `start`; without one and with a path, that file."""
        single = asked.folder if not start else ""
        arguments = ["ls-tree", "-r", "-z", "-l", "--full-tree", tree.commit, *(["--", asked.folder] if asked.folder else [])]
        with self._program.start(tree.mirror, *arguments) as lister:
            assert lister.stdout is not None
            try:
                for entry in _records(lister.stdout):
                    facts, _, path = entry.partition(b"\t")
                    plain = path.decode("utf-8", "surrogateescape")
                    below = plain.removeprefix(start)
                    *_, name = parts = below.split("/")
                    wants = all(patterns.wants_name(part) for part in parts) and patterns.wants_file(name, below)
                    if wants or single == plain:
                        yield _found(asked, tree, facts.decode().split(), path)
                if lister.wait():
                    raise SourceError(f"git cannot list commit {tree.commit[:12]} of {asked.base.removesuffix('#')}")
            finally:
                lister.kill()

    def _read(self, tree: _Tree, path: bytes, writer: IO[bytes]) -> tuple[str, bytes]:
        """Write a file's content; return its sha256 and its beginning. Raises OSError, ValueError."""
        if tree.mirror not in self._readers:
            self._readers[tree.mirror] = self._program.start(tree.mirror, "cat-file", "--batch")
        reader = self._readers[tree.mirror]
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(tree.commit.encode() + b":" + path + b"\n")
        reader.stdin.flush()
        answer = reader.stdout.readline().split()
        if len(answer) != 3 or answer[1] != b"blob":
            raise ValueError("it is not in the mirror")
        digest, head, left = hashlib.sha256(), b"", int(answer[2])
        while left:
            window = reader.stdout.read(min(left, COPY_WINDOW))
            if not window:
                raise ValueError("the program ended")
            head = head or window[: len(LFS_BEGIN)]
            digest.update(window)
            writer.write(window)
            left -= len(window)
        reader.stdout.read(1)  # a line end
        return digest.hexdigest(), head


def _unlock(mirror: Path) -> None:
    """Remove the lock files that a killed git has left. Nobody else works in the mirror: its own lock is held."""
    for path in (*mirror.glob("*.lock"), *mirror.glob("refs/**/*.lock")):
        path.unlink(missing_ok=True)


def _end(program: subprocess.Popen[bytes]) -> None:
    program.kill()
    program.communicate()


def _records(stream: IO[bytes]) -> Iterator[bytes]:
    """The parts of a stream that end with a NUL."""
    rest = b""
    while window := stream.read1(COPY_WINDOW):  # type: ignore[attr-defined]
        *whole, rest = (rest + window).split(b"\0")
        yield from whole


def _found(asked: Repository, tree: _Tree, facts: list[str], path: bytes) -> SourceFile | Omitted:
    mode, kind, blob, size = facts
    uri = asked.uri_of(path)
    plain = path.decode("utf-8", "replace")
    name = f"{asked.base.removesuffix('#')}: {plain}"
    if kind != "blob" or mode in _NO_FILES:
        return Omitted(name, _NO_FILES.get(mode, "is no file"), uri)
    if b"\n" in path or b"\r" in path:
        return Omitted(name, "has a line break in its name", uri)
    # The number distinguishes versions, as the time of a file does.
    version = int(blob[:14], 16)
    return SourceFile(
        uri, None, int(size), version, modified=tree.at, facts=(("git_commit", tree.commit), ("git_path", plain))
    )  # fmt: skip
