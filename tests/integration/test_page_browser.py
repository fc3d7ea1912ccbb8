"""The page of `kb-ingest serve` in a real browser: by keyboard, by script, in the dark, on a narrow screen."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Keys
from selenium.webdriver.common.action_chains import ActionChains

from tests.browser import WINDOW
from tests.documents import pdf
from tests.services import wait_until
from tests.serving import HOSTILE_NAME, Service, documents_to_look_at, token

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [pytest.mark.integration, pytest.mark.slow]

#: What must hold on every page, as faults that were found: names of fields, images and regions, headings, language.
CHECK = """
const faults = [];
const check = (good, fault) => { if (!good) faults.push(fault); };
check(document.documentElement.lang === "en", "lang");
check(document.querySelectorAll("h1").length === 1, "one h1");
check(document.querySelectorAll("main").length === 1, "one main");
check(document.title.trim().length > 10, "title");
for (const field of document.querySelectorAll("input:not([type=hidden], [hidden]), select, textarea, progress")) {
  const label = [...(field.labels || [])].map((one) => one.firstChild.data.trim()).join("") || field.getAttribute("aria-label");
  check(label, "no label: " + field.outerHTML);
}
for (const one of document.querySelectorAll("a, button, summary")) check(one.textContent.trim(), "no name: " + one.outerHTML);
for (const one of document.querySelectorAll("img")) check(one.alt && one.complete && one.naturalWidth, "image: " + one.outerHTML);
for (const one of document.querySelectorAll("[aria-labelledby]")) {
  check(document.getElementById(one.getAttribute("aria-labelledby")), "names nothing: " + one.outerHTML.slice(0, 80));
}
let level = 0;
for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
  check(Number(one.tagName[1]) <= level + 1, "skips a level: " + one.textContent);
  level = Number(one.tagName[1]);
}
const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
check(new Set(ids).size === ids.length, "an id twice");
check(document.documentElement.scrollWidth <= innerWidth, "wider than the window");
return faults;
"""

#: Ratio of contrast between the texts of a page and what is behind them, where it is too low (WCAG: 4.5).
CONTRAST = """
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (c) => [0, 1, 2].map((i) => c[i] / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const c = rgb(getComputedStyle(at).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  }
  return [255, 255, 255];
};
const faults = [];
for (const one of document.querySelectorAll("body *")) {
  if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) || !one.checkVisibility()) continue;
  const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) faults.push(ratio.toFixed(2) + " " + one.outerHTML.slice(0, 80));
}
return faults;
"""


#: Sections of a document that is uploaded, and then shown in the guide.
HANDBOOK = {
    "Notice": "The notice period is three months to the end of a quarter. During the first six months it is two weeks. "
    "Whoever gives notice does so in writing; an e-mail is enough. The notice period of the company grows with the years: "
    "after five years it is four months, after ten years six.",
    "Holidays that are left": "Days of holiday that are left are taken during the notice period. Days that cannot be taken are "
    "paid with the last salary.",
    "Handing over": "Keys, cards and machines are returned on the last day. The manager writes down who continues which task.",
    "References": "A reference is written within four weeks. It says what the work was and, if that is wanted, how it was done.",
}


def write_handbook(path: Path) -> None:
    from reportlab.lib.pagesizes import A5
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    story = [Paragraph("Leaving the company", styles["Title"])]
    for heading, text in HANDBOOK.items():
        story += [Paragraph(heading, styles["Heading2"]), Paragraph(text, styles["BodyText"])]
    SimpleDocTemplate(str(path), pagesize=A5, title="Leaving the company").build(story)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without tokens."""
    with documents_to_look_at(tmp_path_factory.mktemp("page")) as cli, Service(cli) as running:
        yield running


@pytest.fixture
def window(browser: Chrome) -> Iterator[Chrome]:
    """A browser of the usual size, in the light; at the end it must have had nothing to complain about."""
    look(browser)
    browser.get_log("browser")  # type: ignore[no-untyped-call]
    yield browser
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def look(browser: Chrome, width: int = WINDOW[0], *, dark: bool = False) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": WINDOW[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def one(browser: Chrome, selector: str) -> Any:
    (found,) = browser.find_elements("css selector", selector)
    return found


def heading(browser: Chrome) -> str:
    """The heading of the page, asked in one step: the page may be replaced at any moment."""
    return str(browser.execute_script("return document.querySelector('h1')?.textContent ?? ''"))


def press(browser: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def search_for(browser: Chrome, service: Service, question: str) -> None:
    browser.get(service.url)
    press(browser, question, Keys.ENTER)
    wait_until(lambda: "q=" in browser.current_url and bool(browser.find_elements("id", "results")), "the search is answered")


def test_search_and_open_a_hit_by_keyboard(service: Service, window: Chrome) -> None:
    search_for(window, service, "who keeps the keys of the crane?")
    assert "keys" in [mark.text for mark in window.find_elements("css selector", "mark")]
    for _ in range(30):
        press(window, Keys.TAB)
        focus = window.switch_to.active_element
        if focus.text == "Harbour Handbook":
            break
    assert window.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is visible"
    press(window, Keys.ENTER)
    wait_until(lambda: "/documents/" in window.current_url, "the document is shown")
    chosen = one(window, ".chunks > li[aria-current=true]")
    assert chosen.get_attribute("id") == window.current_url.partition("#")[2]
    assert "keys" in [mark.text for mark in chosen.find_elements("css selector", "mark")]
    assert chosen.find_element("css selector", "img").get_attribute("src").endswith("/pages/1?chunk=0")


def test_the_page_of_a_pdf_is_shown_with_the_hit_marked(
    service: Service, window: Chrome, picture: Callable[..., Path], tmp_path: Path
) -> None:
    write_handbook(tmp_path / "leaving.pdf")
    (tmp_path / "travel.md").write_text("# Travel\n\nBook trains early. A trip is paid within the notice of four weeks.\n")
    files = [("file", (path.name, path.read_bytes())) for path in sorted(tmp_path.iterdir())]
    with service.client() as client:
        job = client.post("/v1/documents", files=files, data={"collection": "handbook", "folder": "staff"}).json()
        assert client.get(f"/v1/jobs/{job['id']}", params={"wait": 60}).json()["status"] == "done"
    window.get(f"{service.url}/?q=how+long+is+the+notice+period&collection=handbook&limit=10")
    picture(window, "serve-search")
    one(window, ".hits > li:first-child h3 a").click()
    wait_until(lambda: "/documents/" in window.current_url, "the document is shown")
    drawn = one(window, ".chosen img")
    wait_until(lambda: bool(window.execute_script("return arguments[0].naturalWidth", drawn)), "the page is drawn")
    picture(window, "serve-document")
    with Image.open(io.BytesIO(drawn.screenshot_as_png)) as shot:
        red, green, blue = np.moveaxis(np.asarray(shot.convert("RGB")), 2, 0)
    assert ((red > 240) & (green > 240) & (blue < 160)).any(), "the chunk is marked on the page"


def test_the_first_stop_of_the_keyboard_skips_the_navigation(service: Service, window: Chrome) -> None:
    window.get(f"{service.url}/documents")
    press(window, Keys.TAB)
    assert window.switch_to.active_element.text == "Skip to content"
    press(window, Keys.ENTER)
    assert window.current_url.endswith("#main")


def test_an_upload_is_watched_and_then_found(service: Service, window: Chrome, tmp_path: Path) -> None:
    files = [tmp_path / "ferry.txt", tmp_path / "timetable.pdf"]
    files[0].write_text("The ferry to the island sails at dawn.")
    pdf(files[1])
    window.get(f"{service.url}/jobs")
    one(window, "input[type=file]").send_keys("\n".join(map(str, files)))
    one(window, "input[name=folder]").send_keys("boats", Keys.ENTER)
    wait_until(lambda: "/jobs/" in window.current_url, "the job is shown")
    job = window.current_url
    window.execute_script("window.sameDocument = true")
    assert one(window, "#status").get_attribute("role") == "status"
    wait_until(lambda: one(window, "#status").text.startswith("Done"), "the job ends on the page", 120)
    assert one(window, "#status").text == "Done: 2 of 2 documents processed."
    assert window.execute_script("return window.sameDocument"), "without another load of the page"
    assert one(window, "progress").get_attribute("value") == "2"
    assert window.find_elements("css selector", "form[action$='/cancel']") == []
    search_for(window, service, "ferry island")
    assert "upload://boats/ferry.txt" in one(window, ".hits > li:first-child").text
    window.get(f"{service.url}/jobs")
    assert job in [link.get_attribute("href") for link in window.find_elements("css selector", "table a")]


def test_dropped_files_are_uploaded(service: Service, window: Chrome) -> None:
    window.get(f"{service.url}/jobs")
    window.execute_script("""
        const data = new DataTransfer();
        data.items.add(new File(["The buoy is green."], "buoy.txt", { type: "text/plain" }));
        const what = { dataTransfer: data, bubbles: true, cancelable: true };
        for (const name of ["dragover", "drop"]) document.getElementById("drop").dispatchEvent(new DragEvent(name, what));
    """)
    wait_until(lambda: "/jobs/" in window.current_url, "the job is shown")
    wait_until(lambda: one(window, "#status").text.startswith("Done"), "the job ends on the page", 120)


@pytest.mark.parametrize(("width", "dark"), [(WINDOW[0], False), (WINDOW[0], True), (390, False)])
def test_every_page_can_be_read_by_everybody(service: Service, window: Chrome, width: int, dark: bool) -> None:
    look(window, width, dark=dark)
    with service.client() as client:
        known = {found["uri"].rpartition("/")[2]: found["id"] for found in client.get("/v1/documents").json()["documents"]}
    paths = ["/", "/?q=nectar&folder=%2F*", "/documents", "/jobs", f"/documents/{known['harbour.pdf']}?chunk=0&q=tide"]
    paths += [f"/documents/{known['half.pdf']}", f"/documents/{known['bees.md']}?chunk=8&q=hive"]
    for path in paths:
        window.get(service.url + path)
        assert window.execute_script(CHECK) == [], path
        assert window.execute_script(CONTRAST) == [], path
        back = window.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", back)[:3])) < 60) == dark


def test_texts_of_documents_run_nothing(service: Service, window: Chrome) -> None:
    search_for(window, service, "thistle")
    found = one(window, ".hits > li:first-child")
    assert HOSTILE_NAME in found.text
    found.find_element("css selector", "h3 a").click()
    wait_until(lambda: "/documents/" in window.current_url, "the document is shown")
    assert "javascript:alert(1)" in one(window, ".chunks").text
    assert window.title != "owned"
    assert window.find_elements("css selector", "main img, main script") == []


def test_sign_in_and_out(service: Service, window: Chrome) -> None:
    secret = token(service.cli, "visitor")
    try:
        window.get(f"{service.url}/documents")
        assert one(window, "h1").text == "Sign in"
        assert window.execute_script(CHECK) == []
        # The browser tells of the status 401 of this page; it must tell of nothing else.
        assert [line for line in window.get_log("browser") if "401" not in line["message"]] == []  # type: ignore[no-untyped-call]
        press(window, secret, Keys.ENTER)
        wait_until(lambda: heading(window) == "Documents", "the visitor is signed in")
        assert window.execute_script("return document.cookie") == ""
        assert window.execute_script(CHECK) == []
        one(window, "header button").click()
        wait_until(lambda: heading(window) == "Sign in", "the visitor is signed out")
        assert [line for line in window.get_log("browser") if "401" not in line["message"]] == []  # type: ignore[no-untyped-call]
    finally:
        service.cli.run("token", "revoke", "visitor")
