"""The page in a real browser: no error, no other host, accessible, right at each width, live."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

import pytest
from playwright.sync_api import Browser, Page

from tests.support.sites.ui_site import NEVER_S, NODE, Fleet, served
from tests.ui.browser import SHIFT_MAX, Visitor, chromium, holds
from vacancy.clients.runtime.worker_process import run_worker
from vacancy.resources.model.errors import StoreError
from vacancy.streams.clocks.clock import wall_ms
from vacancy.ui.tables import Tables

VIEWS = {
    "fleet": "fleet",
    "states": "fleet?measure=state&group=state",
    "node": f"node?id={NODE}",
    "consumer": "consumer?id=pinned",
    "request": "request?resources=VCPU:2",
    "why-not": "request?resources=VCPU:100000",
    "status": "status",
    "dead-letters": "dead-letters",
    "log": "log",
    "history": f"history?id={NODE}",
    "error": "node?id=nobody",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_view_is_accessible_calm_and_without_errors(browser: Browser, address: str, scheme: str) -> None:
    visitor = Visitor(browser, address, viewport=WIDE, color_scheme=scheme)
    found = {}
    for name, path in VIEWS.items():
        visitor.visit(path)
        if wrong := visitor.violations():
            found[name] = wrong
        if (moved := visitor.shift()) >= SHIFT_MAX:
            found[name] = [*found.get(name, []), f"it moves by itself: {moved}"]
        if name == "error":  # the browser says that the status is 404
            visitor.complaints = [one for one in visitor.complaints if "404" not in one]
    assert found == {}
    assert visitor.complaints == []
    assert visitor.page.evaluate("globalThis.taken") is None
    visitor.close()


@pytest.mark.parametrize("width", [360, 390, 2560])
def test_nothing_is_wider_than_the_screen(browser: Browser, fleet: Fleet, width: int) -> None:
    with served(fleet, silent_s=-60.0) as address:  # so that the strip has more than fits
        visitor = Visitor(browser, address, viewport={"width": width, "height": 800})
        for path in VIEWS.values():
            page = visitor.visit(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        visitor.close()


CAMERA = "[fleetMap.camera.x, fleetMap.camera.y, fleetMap.camera.scale]"


def test_the_map_is_used_with_the_keyboard(browser: Browser, address: str) -> None:
    visitor = Visitor(browser, address, viewport=WIDE)
    page = visitor.visit_map("fleet?class=VCPU")
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    name = page.inner_text("#readout a")
    page.wait_for_url(lambda url: f"node={name}" in url)
    page.keyboard.press("+")
    assert page.evaluate("fleetMap.camera.scale > fleetMap.camera.least")
    looked_at = page.evaluate(CAMERA)
    page.evaluate("fleetMap.load()")
    assert page.evaluate(CAMERA) == pytest.approx(looked_at), (
        "nodes that are fetched again leave the view as it is"
    )
    page.keyboard.press("0")
    assert page.evaluate("fleetMap.camera.fitted")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/node?id={name}")
    page.go_back()
    page.wait_for_selector("body[data-drawn]")
    assert page.inner_text("#readout a") == name
    page.keyboard.press("/")
    page.keyboard.type(NODE)
    assert page.inner_text("#found") == "1 found"
    assert page.inner_text("#readout a") == NODE
    assert visitor.complaints == []
    visitor.close()


HOUR_MS = 3_600_000


@contextmanager
def worker_on(fleet: Fleet) -> Iterator[None]:
    """A worker in a thread."""
    stop: SimpleQueue[None] = SimpleQueue()
    ready: SimpleQueue[object] = SimpleQueue()
    work = partial(run_worker, fleet.log.url, fleet.settings.store, stop=stop, on_ready=ready.put)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        ready.get(timeout=90)
        yield
    finally:
        stop.put(None)
        thread.join()


_BOX = """(text) => {
  const found = [...document.querySelectorAll("#strip li > *")].find((one) => one.textContent.includes(text));
  return found && found.getBoundingClientRect().toJSON();
}"""
"""Where a text of the strip is. In one step: each second the strip gets other elements."""


def seen_s(page: Page, text: str) -> float:
    """How long it takes until something is on the first screen."""
    began = time.monotonic()
    page.wait_for_selector(f"#strip >> text={text}")
    took = time.monotonic() - began
    box = holds(page, _BOX, text)
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"], text
    assert box["y"] + box["height"] <= PHONE["height"], text
    return took


def test_what_goes_wrong_is_on_the_first_screen_without_a_reload(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full class, a dead letter, a digest of another host, silent nodes, a partition that stands still; a server that ends."""
    fleet = Fleet(tmp_path_factory.mktemp("live"), nodes=3)
    found = {}
    with served(fleet, silent_s=HOUR_MS / 2000) as address:
        visitor = Visitor(browser, address, viewport=PHONE)
        page = visitor.visit("fleet?class=NUMA_CELL")
        page.wait_for_selector("#strip .well")
        with worker_on(fleet):
            fleet.claim("all", {"NUMA_CELL": {"pinned": 8}}, f"{NODE}:numa1")
            fleet.claim("more", {"NUMA_CELL": {"pinned": 6}}, f"{NODE}:numa0")
            found["full class"] = seen_s(page, "NUMA_CELL is full")
            page.wait_for_selector("tfoot [data-of=free] >> text='0'")
            fleet.refused()
            found["dead letter"] = seen_s(page, "1 dead letter")
            fleet.other_digest()
            found["digest mismatch"] = seen_s(page, "digest differs")
        fleet.fold()  # also what the worker had appended last: a partition that is behind counts silence by its own time
        monkeypatch.setattr("vacancy.ui.health.wall_ms", lambda: wall_ms() + HOUR_MS)
        found["silent nodes"] = seen_s(page, "4 silent nodes")
        fleet.refused()  # and nobody folds it
        found["partition that stands still"] = seen_s(page, "stands still")
        assert "stands still" in page.inner_text("#announced")
        assert visitor.shift() < SHIFT_MAX
        assert visitor.complaints == []
    page.wait_for_selector("#strip >> text=does not answer")  # the server has ended
    visitor.close()
    fleet.close()
    sys.stderr.write(f"seen after: { {name: round(took, 1) for name, took in found.items()} }\n")


def test_a_page_catches_up_with_what_it_did_not_see(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(tmp_path_factory.mktemp("background"), nodes=3)
    show = "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    show += " document.dispatchEvent(new Event('visibilitychange')); }"
    with served(fleet, silent_s=NEVER_S) as address:
        visitor = Visitor(browser, address, viewport=WIDE)
        page = visitor.visit("fleet?class=VCPU&group=aggregate:rack-")
        page.wait_for_selector("#strip .well")
        page.evaluate(show, True)
        fleet.claim("unseen", {"VCPU": 2})
        fleet.refused()
        fleet.fold()
        ended = (
            "fetch('/status.json').then((answer) => answer.json()).then((one) => one.health.problems.length)"
        )
        assert page.evaluate(ended) == 1  # the server has it, and the page did not receive it
        assert page.locator("#strip .well").count() == 1
        page.evaluate(show, False)
        page.wait_for_selector("#strip >> text=1 dead letter")
        page.wait_for_selector("tfoot [data-of=used] >> text='2'")
        fleet.disable(NODE, "its aggregate is rack-1")  # the map and its totals get a new group
        fleet.fold()
        page.wait_for_selector("tbody [data-group-row='rack-1']")
        assert page.evaluate("fleetMap.layout.filled.length === fleetMap.data.groups.length")

        def unreadable(*_: object) -> None:
            raise StoreError("the store is damaged")

        with monkeypatch.context() as patch:
            patch.setattr(Tables, "health", unreadable)
            page.wait_for_selector("#strip >> text=the tables cannot be read")
            assert page.inner_text("#announced") == "the tables cannot be read"
        page.wait_for_selector("#strip >> text=1 dead letter")
        assert visitor.complaints == []
        visitor.close()
    fleet.close()


def test_the_past_is_chosen_with_the_slider(browser: Browser, address: str) -> None:
    visitor = Visitor(browser, address, viewport=WIDE)
    page = visitor.visit("status")
    page.evaluate(
        "() => { const one = document.getElementById('slider'); one.value = one.min;"
        " one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change')); }"
    )
    page.wait_for_selector(".time.past")
    assert "as_of=" in page.url
    assert page.input_value("#as-of").count(":") == 2
    page.click(".time a.button")
    page.wait_for_url("**/status")
    assert visitor.complaints == []
    visitor.close()
