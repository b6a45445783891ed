"""A real Chromium, and one stage for all tests of the console.

Both end with the module: while Playwright runs it holds the thread's event loop, which no other test could use.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from ops.local.services import Services
from tests.browser.stage import ConsoleProcess, Stage
from tests.fixtures_services import REQUIRE_REAL_VARIABLE

NAMES = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Debian's Chromium, driven by Playwright, which would otherwise bring one of its own."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        said = "no Chromium on the PATH: install it (on Debian `apt-get install chromium`)."
        if os.environ.get(REQUIRE_REAL_VARIABLE) == "1":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # as root, and in a container, Chromium's own sandbox does not start; it sees our pages only
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def stage(browser: object, services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stream of all tests here; nothing of it is made where there is no browser."""
    made = Stage(services, tmp_path_factory.mktemp("stage"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def page(browser, stage: Stage) -> Iterator:
    """A new page, which must not complain, ask anybody else for anything, or run what it shows."""
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    opened, complaints = context.new_page(), []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    opened.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
    opened.on("request", lambda sent: complaints.append(sent.url) if not _is_ours(sent.url, stage.consoles) else None)
    yield opened
    context.close()
    assert not complaints


def _is_complaint(said) -> bool:
    return said.type == "error" and "401 (Unauthorized)" not in said.text  # a wrong token is tried on purpose


def _is_ours(url: str, consoles: list[ConsoleProcess]) -> bool:
    return url.startswith(tuple(console.url for console in consoles))
