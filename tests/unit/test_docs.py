"""The guides say what the code does: every setting, every reason, every target, every link."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import page as performance
from pipeline.parse import MEDIA_TYPES
from pipeline.settings import Settings, load_settings
from pipeline.types import Reason
from workers.api import MCP_PATH
from workers.cli import run

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("examples/*.md")])

settings_table = SimpleNamespace(**runpy.run_path(str(REPOSITORY / "docs" / "settings_table.py")))


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def known_variables() -> set[str]:
    settings = {name for field, info in Settings.model_fields.items() for name in settings_table.variable_names(field, info)}
    # And those that compose reads.
    compose = "".join(file.read_text("utf-8") for file in REPOSITORY.glob("compose*.yaml"))
    return settings | set(re.findall(r"\$\{(\w+)", compose))


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_in_the_table(field: str) -> None:
    info = Settings.model_fields[field]
    assert info.description, f"{field} has no description"
    table = read("docs/configuration.md").partition(settings_table.BEGIN)[2].partition(settings_table.END)[0]
    assert table.count(f"\n| `{settings_table.variable_names(field, info)[0]}` |") == 1


def test_the_table_is_up_to_date() -> None:
    page = read("docs/configuration.md")
    assert settings_table.updated(page) == page, "run `make docs`"


def test_the_table_notices_a_changed_page() -> None:
    page = read("docs/configuration.md")
    assert settings_table.updated(page.replace("`KB_MODEL`", "`KB_MODUL`")) != page.replace("`KB_MODEL`", "`KB_MODUL`")
    with pytest.raises(ValueError, match="settings: begin"):
        settings_table.updated("no table here")


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_guides_name_only_settings_that_exist(page: Path) -> None:
    named = set(re.findall(r"\bKB_[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert {name for name in named if not name.startswith(("KB_TEST_", "KB_FAULT_"))} <= known_variables()


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_says_what_to_do(reason: Reason) -> None:
    found = re.findall(rf"^\| `{reason.value}` \| (.+) \| (.+) \|$", read("docs/quarantine.md"), re.MULTILINE)
    assert len(found) == 1
    assert all(cell.strip() for cell in found[0])


def test_no_reason_is_invented() -> None:
    named = re.findall(r"^\| `([a-z_]+)` \|", read("docs/quarantine.md"), re.MULTILINE)
    assert set(named) == {reason.value for reason in Reason}


def test_the_table_of_formats_has_every_media_type() -> None:
    rows = "".join(line for line in read("docs/formats.md").splitlines() if line.startswith("| "))
    assert set(re.findall(r"`([a-z]+/[a-z0-9.+-]+)`", rows)) == MEDIA_TYPES


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        assert (page.parent / target).exists(), target
        if heading:
            assert heading in headings((page.parent / target) if target else page), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_blocks_of_json_can_be_read(page: Path) -> None:
    for block in re.findall(r"^```json\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        json.loads(block)


def test_configurations_of_clients_start_a_command_that_exists() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", read("docs/mcp.md"), re.MULTILINE | re.DOTALL)
    servers = [(json.loads(one).get("mcpServers") or json.loads(one)["servers"])["kb-ingest"] for one in blocks]
    assert len(servers) == 4
    for server in servers:
        if "url" in server:
            assert server["url"].endswith(MCP_PATH)
        else:
            assert run([*server["args"], "--help"]) == 0


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"`[^`]+`|^    .+", text, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets


def test_make_help_tells_every_target() -> None:
    makefile = read("Makefile")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert phony[1].split() == re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)


def test_the_example_environment_file_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every line switched on it is read without an error, and it names nothing that does not exist."""
    lines = [found[1] for line in read(".env.example").splitlines() if (found := re.match(r"#?([A-Z][A-Z_]*=.*)$", line))]
    names = [line.partition("=")[0] for line in lines]
    assert names
    assert len(names) == len(set(names))
    assert set(names) <= known_variables()
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert "KB_MODEL" in names
    assert str(settings.data_dir) == next(line for line in lines if line.startswith("KB_DATA_DIR=")).partition("=")[2]


def test_the_version_is_in_the_changelog() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_constraints_name_versions_only() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    names = [line.partition("==")[0].lower() for line in lines]
    assert len(names) == len(set(names))


def test_every_requirement_has_a_tested_version() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["offline"], *extras["dev"]]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    tested = {line.partition("==")[0].lower().replace("_", "-") for line in read("constraints.txt").splitlines()}
    assert names <= tested


def test_the_page_of_dependencies_has_every_requirement_once() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", read("docs/dependencies.md").partition("## Should it stay?")[0], re.MULTILINE)
    assert sorted(rows) == sorted({re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in wanted})


@pytest.mark.parametrize(
    ("name", "part"),
    [("performance.md", performance.written), ("search.md", performance.searches), ("retrieval.md", performance.judged)],
)
def test_the_tables_are_what_the_benchmarks_have_kept(name: str, part: Callable[[], str]) -> None:
    page = read(f"docs/{name}")
    found = performance.BEGIN + page.partition(performance.BEGIN)[2].partition(performance.END)[0] + performance.END
    assert found == part(), "run `python -m benchmarks.page`"
