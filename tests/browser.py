"""A real browser that tests drive, and the pictures of pages that the guides show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from PIL import Image

from tests.services import REPOSITORY

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

#: Size of the window, and so of the pictures, in pixels.
WINDOW = (1280, 900)


def open_browser(unavailable: Callable[[str], NoReturn]) -> Chrome:
    """Headless Chromium; where there is none, `unavailable` is told."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    programs = [next(filter(None, map(shutil.which, names)), None) for names in (("chromium", "google-chrome"), ("chromedriver",))]
    if None in programs:
        unavailable("no chromium or chromedriver is installed")
    options = ChromeOptions()
    options.binary_location = str(programs[0])
    # As root, in a container, its own sandbox does not start; /dev/shm is small there. The pages are ours.
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--force-device-scale-factor=1",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.add_argument(f"--window-size={WINDOW[0]},{WINDOW[1]}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=str(programs[1])))
    driver.set_page_load_timeout(60)
    return driver


@pytest.fixture(scope="module")
def browser(unavailable: Callable[[str], NoReturn]) -> Iterator[Chrome]:
    """A browser for the tests of a module."""
    driver = open_browser(unavailable)
    yield driver
    driver.quit()


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Call it with a browser, or an element of a page, and a name: a picture of it that shows something.

    With KB_TEST_PICTURES set the picture goes to docs/pictures too, where the guides show it.
    """

    def take(what: object, name: str) -> Path:
        path = tmp_path / f"{name}.png"
        shot = getattr(what, "save_screenshot", None) or what.screenshot  # type: ignore[attr-defined]
        assert shot(str(path))
        assert colours(path) > 8, f"{path} shows nothing"
        if os.environ.get("KB_TEST_PICTURES"):
            shutil.copy(path, REPOSITORY / "docs" / "pictures" / path.name)
        return path

    return take


def colours(path: Path) -> int:
    """How many different colours a picture has."""
    with Image.open(path) as image:
        found = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST).getcolors(1 << 24)
    return len(found or ())
