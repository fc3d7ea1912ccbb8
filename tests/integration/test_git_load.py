"""A repository as a source: loaded, searched with its commit, kept in step; a renamed file embeds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.embed_server import MODEL
from tests.pages import page
from tests.repository import ENVIRONMENT, TestRepository
from tests.services import Cli, Server

pytestmark = pytest.mark.integration


@pytest.fixture
def cli(data_dir: Path, model: Server) -> Cli:
    return Cli(data_dir, KB_EMBED_URL=f"http://127.0.0.1:{model.port}", KB_EMBED_MODEL=MODEL, **ENVIRONMENT)


def test_a_collection_is_kept_equal_to_a_branch(cli: Cli, tmp_path: Path) -> None:
    repo = TestRepository(tmp_path / "repo")
    first = repo.commit({f"docs/{number}.md": page(number) for number in range(6)} | {"README.md": "# Not wanted\n"})
    cli.run("source", "add", "handbook", f"{repo.url}@main#docs", "--exclude", "5.md")
    planned = cli.answer("plan", "handbook")
    assert (planned["counts"]["added"], planned["plan"]["chunks"]) == (5, 5)
    assert cli.answer("sync", "handbook")["indexed"] == 5
    (hit,) = cli.answer("search", "subject3", "--limit", "1")
    assert hit["uri"] == f"{repo.url}@main#/docs/3.md"
    assert (hit["title"], hit["metadata"]["git_commit"], hit["metadata"]["git_path"]) == ("Page 3", first, "docs/3.md")
    assert len(cli.answer("search", "page", "--filter", f"git_commit = {first}")) == 5

    # Renamed, edited, removed.
    repo.git("mv", "docs/0.md", "docs/zero.md")
    repo.commit({"docs/1.md": page(1) + "\nEdited.\n", "docs/2.md": None})
    counts = cli.answer("plan", "handbook")["counts"]
    assert counts == {"added": 0, "changed": 1, "moved": 1, "vanished": 2, "unchanged": 2, "unknown": 0, "skipped": 0}
    second = cli.answer("sync", "handbook", "--allow-delete")
    assert (second["deleted"], second["unchanged"], second["chunks"]) == (2, 2, 1)  # the edited one alone is embedded
    assert cli.whole() == 4

    repo.commit({"elsewhere.md": "x"})
    third = cli.answer("sync", "handbook")
    assert (third["unchanged"], third["indexed"], third["deleted"]) == (4, 0, 0)

    # A repository that cannot be read deletes nothing.
    (tmp_path / "repo").rename(tmp_path / "away")
    failed = cli.run("sync", "handbook", status=1)
    assert "cannot read git+file://" in failed.stderr
    assert cli.answer("source", "show", "handbook")["documents"] == 4


def test_a_password_in_a_url_is_stored_and_shown_nowhere(cli: Cli, data_dir: Path) -> None:
    location = "git+https://me:hidden-word@127.0.0.1:1/repo.git"
    for arguments in (["load", location], ["source", "add", "handbook", location], ["load", "--dry-run", location]):
        ended = cli.run(*arguments, status=1)
        assert "KB_GIT_CREDENTIALS" in ended.stderr
        assert "hidden-word" not in ended.stderr + ended.stdout
    assert not [path for path in data_dir.rglob("*") if path.is_file() and b"hidden-word" in path.read_bytes()]
