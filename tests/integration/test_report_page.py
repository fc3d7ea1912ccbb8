"""The report of a run in a real browser, after real loads with the real model."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import half_scanned_pdf as write_scanned
from tests.documents import pdf
from tests.services import REPOSITORY, Cli

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HOSTILE = "<img src=x onerror=alert(1)> naïve.bin"

#: For a picture that shows something; the tests do without, to be quick.
PAGES = Path("/usr/share/doc/python3.11/html/library")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cli, list[dict[str, Any]]]]:
    """The guides of this project, loaded twice with edits in between; what `load --json` said."""
    cli = Cli(tmp_path_factory.mktemp("report") / "data", KB_INGEST_DEVICE="cpu", KB_DEVICE="cpu", KB_COLLECTION="handbook")
    with tempfile.TemporaryDirectory(prefix="kb-") as place:
        folder = Path(place) / "handbook"
        folder.mkdir()
        guides = sorted(REPOSITORY.glob("docs/*.md"))
        for guide in guides[: len(guides) // 2]:
            shutil.copy(guide, folder)
        (folder / "Invoice 2024-11.pdf").write_bytes(b"%PDF-1.7\ncut off")
        (folder / "scan.pdf").write_bytes(b"%PDF-1.7\nno more of it")
        (folder / "empty.txt").write_bytes(b"")
        (folder / HOSTILE).write_bytes(b"%PDF-1.7\nno more of it either")
        results = [cli.answer("load", str(folder), status=3)]
        for guide in guides[len(guides) // 2 :]:
            shutil.copy(guide, folder)
        edited = folder / guides[0].name
        edited.write_text(edited.read_text("utf-8") + "\n## Harbour\n\nEvery vessel that stays overnight needs a mooring permit.\n")
        pdf(folder / "scan.pdf")
        (folder / HOSTILE).unlink()
        (folder / "quay.pdf").write_bytes(b"%PDF-1.7\nnothing")
        (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(200)))
        write_scanned(folder / "half scanned.pdf")
        if os.environ.get("KB_TEST_PICTURES"):
            for page in sorted(PAGES.glob("[acds]*.html")):
                shutil.copy(page, folder)
        results.append(cli.answer("load", str(folder), status=3))
        yield cli, results


def numbers(browser: Chrome, names: tuple[str, ...]) -> dict[str, float]:
    """Figures at the top of the page."""
    return {name: float(browser.find_element("css selector", f"dd#{name}").text.replace(",", "")) for name in names}


def test_the_page_shows_what_the_ledger_and_the_load_say(
    loaded: tuple[Cli, list[dict[str, Any]]], browser: Chrome, picture: Callable[..., Path], tmp_path: Path
) -> None:
    cli, (first, second) = loaded
    file = tmp_path / "report.html"
    record = cli.answer("report", str(second["run"]), "--html", str(file))
    browser.set_window_size(1280, 2150)
    browser.get(file.as_uri())
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    assert browser.find_elements("css selector", "script, img, link, iframe") == []

    names = ("discovered", "unchanged", "indexed", "quarantined", "skipped")
    shown = numbers(browser, (*names, "embedded", "tokens", "chunks_per_s"))
    assert {name: shown[name] for name in names} == {name: second[name] for name in names}
    assert shown["embedded"] == second["chunks"]
    assert {name: shown[name] for name in shown} == {name: record["totals"][name] for name in shown}
    assert record["totals"]["bytes"] == second["bytes"]
    # The load's own clock stops just before the run's end is written down.
    assert record["seconds"] == pytest.approx(second["seconds"], abs=1)
    assert shown["chunks_per_s"] == pytest.approx(second["chunks"] / record["seconds"], abs=0.051)
    assert sum(one["chunks"] for one in record["bins"]) == second["chunks"]
    assert sum(one["documents"] for one in record["bins"]) == second["indexed"]
    # Each is rounded to milliseconds for people.
    assert sum(one["embed_s"] for one in record["slowest"]) - 0.006 < record["stages"][1]["work_s"] < record["seconds"]

    assert len(browser.find_elements("css selector", "#throughput rect")) == len(record["bins"])
    bars = browser.find_elements("css selector", "#lengths rect")
    assert len(bars) == len(record["lengths"]["bins"]) == 16
    highest = max(range(16), key=lambda place: bars[place].size["height"])
    assert record["lengths"]["bins"][highest] == max(record["lengths"]["bins"])
    cut = browser.find_element("css selector", "#cut")
    assert cut.text.startswith("0 chunks were cut.")
    assert "good" in (cut.get_attribute("class") or "")
    assert record["lengths"]["over"] == 0

    failures = browser.find_element("css selector", "section[aria-labelledby=h-failures]").text
    assert "Invoice 2024-11.pdf" in failures
    assert "refused before this run, and unchanged" in failures
    assert "quay.pdf" in failures
    assert "half scanned.pdf" in failures
    assert "1 document indexed with losses: 1 page without text" in failures
    assert "scan.pdf" not in failures
    assert {group["reason"]: group["documents"] for group in record["failures"]} == {"corrupt": 2}
    assert {group["reason"]: group["documents"] for group in record["skipped"]} == {"empty_file": 1, "unsupported": 1}
    assert record["losses"] == {"page_without_text": 1}

    comparison = {one["name"]: (one["value"], one["before"]) for one in record["comparison"]["figures"]}
    assert comparison["embedded"] == (second["chunks"], first["chunks"])
    assert comparison["quarantined"] == (2, 3)
    row = browser.find_element("xpath", "//tr[th='chunks embedded']").text
    signed = f"{second['chunks'] - first['chunks']:+,}".replace("-", "−").replace("+0", "±0")
    assert row == f"chunks embedded {second['chunks']:,} {first['chunks']:,} {signed}"
    picture(browser, "report")


def test_an_earlier_run_stays_as_it_was_and_says_what_was_mended(
    loaded: tuple[Cli, list[dict[str, Any]]], browser: Chrome, tmp_path: Path
) -> None:
    cli, (first, _) = loaded
    file = tmp_path / "report.html"
    record = cli.answer("report", str(first["run"]), "--html", str(file))
    assert record["totals"]["quarantined"] == 3
    (group,) = record["failures"]
    assert (group["reason"], sorted(one["since"] for one in group["named"])) == ("corrupt", ["", "", "fixed since"])
    said = cli.run("report", str(first["run"])).stdout
    assert f"0 chunks cut of {record['lengths']['chunks']:,}: the model accepts up to 256 tokens" in said
    assert "(fixed since)" in said
    for width, dark in ((390, False), (1280, True)):
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
        )
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        )
        browser.get(file.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
        back = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert HOSTILE in browser.find_element("css selector", "section[aria-labelledby=h-failures]").text
        assert browser.find_elements("css selector", "img, script") == []
        assert (max(map(int, re.findall(r"\d+", back)[:3])) < 60) == dark
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
