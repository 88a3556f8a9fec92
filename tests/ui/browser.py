"""A real browser for tests of the page: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

WAIT_MS = 90_000
SHIFT_MAX = 0.02
"""How much of a view may move by itself: 0.1 counts as good."""

_SHIFTS = """
globalThis.moved = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) globalThis.moved += one.value;
}).observe({type: "layout-shift", buffered: true});
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. It fails where there is none: `apt-get install chromium`."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable is not None, "the tests of the page need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=WAIT_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def holds(page: Page, expression: str, argument: object = None) -> Any:
    """Wait until an expression of the page is true. Returns its value."""
    give_up_at = time.monotonic() + WAIT_MS / 1000
    while not (found := page.evaluate(expression, argument)):
        assert time.monotonic() < give_up_at, expression
        page.wait_for_timeout(20)
    return found


class Visitor:
    """One tab, and everything that it complained about: errors, requests to other hosts."""

    def __init__(self, browser: Browser, address: str, **settings: Any) -> None:
        self.address = address
        self.complaints: list[str] = []
        self._context = browser.new_context(**settings)
        self._context.add_init_script(_SHIFTS)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:")):
            self.complaints.append(f"asked {url}")

    def visit(self, path: str) -> Page:
        """Go to a view, and wait until what comes later is there."""
        self.page.goto(f"{self.address}/{path}")
        if self.page.locator("#canvas").count():
            self.page.wait_for_selector("body[data-drawn]")
        self.page.wait_for_selector("[data-later] > p.empty > a", state="detached")
        return self.page

    def visit_map(self, path: str) -> Page:
        """Go to the map of now, and wait until it has what the stream of events brings at its beginning: the nodes are then
        fetched again where they were there before it."""
        page = self.visit(path)
        holds(page, "document.getElementById('strip').dataset.seen && !fleetMap.loading")
        return page

    def shift(self) -> float:
        """How much of this view has moved by itself since it was loaded, as Lighthouse adds it up."""
        return float(self.page.evaluate("globalThis.moved"))

    def violations(self) -> list[str]:
        """What axe finds: rule and element."""
        found = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:160]}" for one in found for node in one["nodes"]]

    def close(self) -> None:
        """Close the tab."""
        self._context.close()
