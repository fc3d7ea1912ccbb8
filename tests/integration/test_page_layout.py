"""Pages of made figures in a real browser: on paper, with long numbers, and without a pointer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver import Keys

from pipeline.ledger import Ledger
from pipeline.reports.map import Copies, DocumentName, EmbeddingMap, Findings, Folder, Near, Place
from pipeline.reports.map.page import map_page
from pipeline.reports.run import gather
from pipeline.reports.run.page import report_page

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: Pairs of a long table.
PAIRS = 100


@pytest.fixture
def paper(browser: Chrome) -> Iterator[Chrome]:
    """The browser, laying pages out as on a sheet of A4."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size = {"width": 718, "height": 1047, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield browser
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def drawn() -> EmbeddingMap:
    """A map of four documents with more pairs than there can be."""
    named = [DocumentName(f"Title {number}", f"file:///srv/a/{number}.md", f"/srv/a/{number}.md") for number in range(3)]
    named.append(DocumentName("Object", "s3://shelf/a/o.md", "s3://shelf/a/o.md"))
    findings = Findings(
        collection="documents", documents=4, chunks=4, root="", folders=[Folder("a", 4)],
        copies=[Copies([named[3], named[3]])], copies_total=1, near=[Near(0.98, named[0], named[1])] * PAIRS, near_total=PAIRS,
        near_cosine=0.97, outliers=[], outliers_total=0, typical_cosine=0.5, drawn=4, explained=0.5,
    )  # fmt: skip
    places = [Place(name, 0, number / 3, number % 2, 1) for number, name in enumerate(named)]
    return EmbeddingMap(findings, places)


def test_paper_shows_the_whole_of_a_map(drawn: EmbeddingMap, paper: Chrome, tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    file.write_text(map_page(drawn), "utf-8")
    paper.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    paper.get(file.as_uri())
    paper.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = paper.execute_script(
        "return [...document.querySelectorAll('#lists section')].map(one => one.scrollHeight - one.clientHeight)"
    )
    assert hidden == [0, 0, 0]
    width, height, shown_width, shown_height = paper.execute_script(
        "return [canvas.width, canvas.height, canvas.clientWidth, canvas.clientHeight]"
    )
    assert shown_height / shown_width == pytest.approx(height / width, rel=0.01), "circles stay circles"


def test_a_row_is_shown_on_the_map_without_a_pointer(drawn: EmbeddingMap, browser: Chrome, tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    file.write_text(map_page(drawn), "utf-8")
    browser.get(file.as_uri())
    browser.find_element("css selector", "#folders button").send_keys(Keys.TAB)
    tip = browser.find_element("id", "tip")
    assert "s3://shelf/a/o.md" in tip.text
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert "/srv/a/0.md" in tip.text
    browser.execute_script("document.activeElement.blur()")
    assert not tip.is_displayed()


def test_no_figure_of_a_report_leaves_its_tile(paper: Chrome, tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'kb.db'}")
    past = ledger.runs.past(ledger.runs.start("docs"))
    assert past is not None
    found = gather(ledger, past)
    ledger.close()
    large = replace(found.totals, discovered=12_345_678, tokens=123_456_789_012, embedded=1_234_567_890, bytes_per_s=987_654.0)
    file = tmp_path / "report.html"
    file.write_text(report_page(replace(found, totals=large)), "utf-8")
    paper.get(file.as_uri())
    for width, medium in ((718, "print"), (1280, ""), (380, "")):
        paper.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        paper.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        wide = paper.execute_script(
            "return [...document.querySelectorAll('.tiles dd')].filter(one => one.scrollWidth > one.clientWidth).map(one => one.id)"
        )
        assert wide == [], (width, medium)
