"""The page in a real browser: no error, no other host, accessible, right at each width, live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.ui_site import NEVER_S, NODE, Fleet, served
from tests.ui.browser import Visitor, chromium

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
    "error": "node?id=nobody",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_view_is_accessible_and_without_errors(browser: Browser, address: str, scheme: str) -> None:
    visitor = Visitor(browser, address, viewport=WIDE, color_scheme=scheme)
    found = {}
    for name, path in VIEWS.items():
        visitor.visit(path)
        if wrong := visitor.violations():
            found[name] = wrong
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


def test_the_map_is_used_with_the_keyboard(browser: Browser, address: str) -> None:
    visitor = Visitor(browser, address, viewport=WIDE)
    page = visitor.visit("fleet?class=VCPU")
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    name = page.inner_text("#readout a")
    assert f"node={name}" in page.url
    page.keyboard.press("+")
    assert page.evaluate("fleetMap.camera.scale > fleetMap.camera.least")
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


def test_what_goes_wrong_is_on_the_page_without_a_reload(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fleet = Fleet(tmp_path_factory.mktemp("live"), nodes=3)
    with served(fleet, silent_s=NEVER_S) as address:
        visitor = Visitor(browser, address, viewport=PHONE)
        page = visitor.visit("fleet?class=NUMA_CELL")
        page.evaluate(
            "new PerformanceObserver((list) => { for (const one of list.getEntries()) if (!one.hadRecentInput)"
            " globalThis.moved = (globalThis.moved ?? 0) + one.value; }).observe({type: 'layout-shift', buffered: true})"
        )
        page.wait_for_selector("#strip .well")
        fleet.refused()
        fleet.claim("all", {"NUMA_CELL": {"pinned": 8}}, f"{NODE}:numa1")
        fleet.claim("more", {"NUMA_CELL": {"pinned": 6}}, f"{NODE}:numa0")
        fleet.fold()
        page.wait_for_selector("#strip >> text=1 dead letter")
        page.wait_for_selector("#strip >> text=NUMA_CELL is full")
        page.wait_for_selector("tfoot [data-of=free] >> text='0'")
        fleet.refused()  # and nobody folds it
        page.wait_for_selector("#strip >> text=stands still")
        box = page.locator("#strip >> text=stands still").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PHONE["width"]
        assert "stands still" in page.inner_text("#announced")
        assert page.evaluate("globalThis.moved ?? 0") < 0.02
        assert visitor.complaints == []
    page.wait_for_selector("#strip >> text=does not answer")  # the server has ended
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
