"""The map of a collection of real pages, looked at in a real browser."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from selenium.webdriver import ActionChains

from tests.browser import WINDOW
from tests.services import Cli

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGES = Path("/usr/share/doc/python3.11/html")

#: Pages of each folder, and the most bytes of one: enough to see that folders stand apart.
FOLDERS, EACH, MAX_BYTES = ("library", "c-api", "distutils", "howto", "tutorial"), 16, 40_000


@pytest.fixture
def folder(unavailable: Callable[[str], NoReturn]) -> Iterator[Path]:
    """Real pages in their folders, one of them twice, one nearly; at a place whose name is short, as it is in the picture."""
    if not PAGES.is_dir():
        unavailable("no python3-doc on this machine")
    with tempfile.TemporaryDirectory(prefix="docs-") as place:
        yield _filled(Path(place))


def _filled(place: Path) -> Path:
    for name in FOLDERS:
        pages = [page for page in sorted((PAGES / name).glob("*.html")) if page.stat().st_size < MAX_BYTES]
        (place / "python" / name).mkdir(parents=True)
        for page in pages[:: max(1, len(pages) // EACH)][:EACH]:
            shutil.copy(page, place / "python" / name)
    made = place / "python" / "copies"
    made.mkdir()
    source = sorted((place / "python" / "tutorial").glob("*.html"))[0]
    shutil.copy(source, made / "again.html")
    (made / "nearly.html").write_text(source.read_text("utf-8").replace("</body>", "<p>Seen by the editor.</p></body>"), "utf-8")
    return place / "python"


def test_people_see_what_a_collection_holds_and_what_is_in_it_twice(
    folder: Path, data_dir: Path, tmp_path: Path, browser: Chrome, picture: Callable[..., Path]
) -> None:
    cli = Cli(data_dir, KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu")
    count = cli.answer("load", str(folder))["indexed"]
    file = tmp_path / "map.html"
    found = json.loads(cli.run("map", "--html", str(file), "--json").stdout)
    assert found["documents"] == count
    assert {name["name"] for name in found["folders"]} == {*FOLDERS, "copies"}
    (copies,) = found["copies"]
    assert [Path(one["path"]).name for one in copies["documents"]].count("again.html") == 1
    assert any("nearly.html" in pair["first"]["path"] + pair["second"]["path"] for pair in found["near"])

    browser.set_window_size(WINDOW[0], 1150)
    browser.get(file.as_uri())
    canvas = browser.find_element("id", "canvas")
    assert canvas.get_attribute("data-points") == str(count)
    words = browser.find_element("id", "lists").text
    assert "again.html" in words
    assert "nearly.html" in words
    picture(browser, "map")

    # A title is found, and shown at its place; so it is under the pointer.
    browser.find_element("id", "search").send_keys("again.html")
    (hit,) = browser.find_elements("css selector", "#found button")
    ActionChains(browser).move_to_element(hit).perform()
    tip = browser.find_element("id", "tip")
    assert "copies/again.html" in tip.text
    left, top = browser.execute_script("return at(places.find(place => place.path.endsWith('again.html')))")
    box = canvas.rect
    ActionChains(browser).move_to_element_with_offset(canvas, left - box["width"] / 2, top - box["height"] / 2).perform()
    assert "copy or near-duplicate" in tip.text
    browser.find_element("id", "search").clear()

    # A folder shows itself alone.
    browser.get(file.as_uri())
    button = next(one for one in browser.find_elements("css selector", "#folders button") if "howto" in one.text)
    button.click()
    canvas = browser.find_element("id", "canvas")
    assert canvas.get_attribute("data-points") == str(len(list((folder / "howto").iterdir())))
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
