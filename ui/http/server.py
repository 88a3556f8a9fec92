"""The HTTP server: addresses, what a browser may do with a page, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from vacancy.clients.inspection.lookup import NotFound
from vacancy.clients.past.points import point_text
from vacancy.resources.model.encoding.plain import plain
from vacancy.resources.model.errors import LogUnavailable, StoreError, UsageError, VacancyError
from vacancy.ui.command_line import command_line
from vacancy.ui.health import Health
from vacancy.ui.http.assets import Asset, load_assets
from vacancy.ui.http.live import Live
from vacancy.ui.http.rendering import Renderer
from vacancy.ui.pages import consumer, dead_letters, fleet, log, node, request, status
from vacancy.ui.pages.page import Ask, Page, Withheld
from vacancy.ui.past import BeingMade, Busy
from vacancy.ui.site import Site, TookTooLong

View = Callable[[Site, Ask], Awaitable[Page]]

VIEWS: Final[Mapping[str, tuple[View, str]]] = {
    "fleet": (fleet.page, "Fleet"),
    "request": (request.page, "Request"),
    "status": (status.page, "Status"),
    "dead-letters": (dead_letters.page, "Dead letters"),
    "log": (log.page, "Log"),
    "node": (node.page, ""),
    "consumer": (consumer.page, ""),
    "history": (node.history, ""),
}
"""Name in the address -> the view, and its name in the menu ('' for none)."""

REDACTED: Final = frozenset({"fleet", "request", "status"})
"""The views of a site that shows no names."""

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_REDACTED_ERRORS: Final[Mapping[HTTPStatus, dict[str, str]]] = {
    code: {"what": "this cannot be answered now", "do": "ask the operator of the fleet"}
    for code in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INTERNAL_SERVER_ERROR)
}
"""What errors of the store and the log say where no names are shown: their texts have paths, addresses and names."""

_WRITE_S: Final = 30.0
"""How long a browser may take to accept an event."""

_SITE: Final = web.AppKey("site", Site)
_LIVE: Final = web.AppKey("live", Live)
_RENDERER: Final = web.AppKey("renderer", Renderer)
_HOSTS: Final[web.AppKey[frozenset[str]]] = web.AppKey("hosts", frozenset)
"""The names that requests may use for this host; empty: any."""
_ASSETS: Final[web.AppKey[Mapping[str, Asset]]] = web.AppKey("assets", Mapping)


def make_app(site: Site, *, host: str = "127.0.0.1") -> web.Application:
    """The application. It does not close the site. `host` is the address that it will listen on: on the loopback interface
    it answers only to its names, so that no page of another host can reach it through a name of its own."""
    app = web.Application(middlewares=[_with_headers, _with_errors])
    app[_SITE] = site
    redacted = site.options.redacted
    menu = [(name, text) for name, (_, text) in VIEWS.items() if text and (not redacted or name in REDACTED)]
    app[_RENDERER] = Renderer(menu=menu, redacted=redacted)
    app[_ASSETS] = load_assets()
    app[_LIVE] = Live(site, lambda health: _strip(app, health))
    app[_HOSTS] = names_of_host(host)
    app.router.add_get("/", _root)
    app.router.add_get("/events", _events, allow_head=False)
    app.router.add_get("/fleet.bin", _fleet_bytes)
    app.router.add_get("/find", _find)
    for name, (view, _) in VIEWS.items():
        for ending in ("", ".json", ".part"):
            app.router.add_get(f"/{name}{ending}", _handler(view, name, ending))
    app.router.add_get("/static/{name:.+}", _asset)
    app.cleanup_ctx.append(_looking)
    return app


def names_of_host(host: str) -> frozenset[str]:
    """The names that requests may use for this host where it listens on an address, or a name, of the loopback interface.
    Empty for others: there a request may use any."""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host.lower() in _LOOPBACK
    return _LOOPBACK | {host.lower()} if is_loopback else frozenset()


async def _looking(app: web.Application) -> AsyncIterator[None]:
    await app[_LIVE].ask_log()  # so that the first page has the slider of time
    tasks = [asyncio.create_task(one) for one in (app[_LIVE].run(), app[_SITE].latency.run())]
    yield
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _strip(app: web.Application, health: Health, as_of: str = "") -> str:
    ask = Ask({}, as_of)
    redacted = app[_SITE].options.redacted
    return app[_RENDERER].render(
        "strip.html", {"health": health, "link": ask.address, "views": REDACTED if redacted else VIEWS}
    )


# -- what is the same for all requests ---------------------------------------------------------------------------------


@web.middleware
async def _with_headers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    hosts = request.app[_HOSTS]
    try:
        if hosts and request.url.host not in hosts:
            raise web.HTTPMisdirectedRequest(text="this page is served under its own address only\n")
        response = await handler(request)
    except web.HTTPException as answer:  # also redirects
        answer.headers.update(SECURITY_HEADERS)
        raise
    if not response.prepared:
        response.headers.update(SECURITY_HEADERS)
        response.headers.setdefault("Cache-Control", "no-cache")
    return response


@web.middleware
async def _with_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Errors as pages, or as JSON for programs."""
    try:
        return await handler(request)
    except BeingMade as making:
        found = {"making": {"done": making.done, "total": making.total}}
        if _wants_json(request):
            return web.json_response(found, status=HTTPStatus.ACCEPTED, headers={"Retry-After": "1"})
        text = request.app[_RENDERER].render("making.html", {"done": making.done, "total": making.total})
        return web.Response(
            text=text, content_type="text/html", status=HTTPStatus.ACCEPTED, headers={"Refresh": "1"}
        )
    except VacancyError as error:
        code = _code_of(error)
        shown = {"what": error.what, "where": error.where, "do": error.do}
        if request.app[_SITE].options.redacted:
            shown |= _REDACTED_ERRORS.get(code, {}) | {"where": ""}
        if _wants_json(request):
            return web.json_response({"error": shown}, status=code)
        text = request.app[_RENDERER].render("error.html", {"error": shown, "code": code})
        return web.Response(text=text, content_type="text/html", status=code)


def _code_of(error: VacancyError) -> HTTPStatus:
    if isinstance(error, NotFound):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, Withheld):
        return HTTPStatus.FORBIDDEN
    if isinstance(error, UsageError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, LogUnavailable | StoreError | Busy | TookTooLong):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _wants_json(request: web.Request) -> bool:
    accepted = request.headers.get("Accept", "")
    return request.path.endswith((".json", ".bin")) or (
        "application/json" in accepted and "text/html" not in accepted
    )


# -- the addresses -----------------------------------------------------------------------------------------------------


async def _root(_: web.Request) -> web.Response:
    raise web.HTTPFound("/fleet")


async def _asked(request: web.Request) -> Ask:
    """The parameters. A point in time that is no position is replaced by one, so that the address shows the same to everybody."""
    values = dict(request.query)
    as_of = values.pop("as_of", "").strip()
    if not as_of:
        return Ask(values)
    position = await request.app[_SITE].position_of(as_of)
    if position != as_of:
        raise web.HTTPFound(f"{request.path}?{urlencode({**values, 'as_of': position})}")
    return Ask(values, position)


def _handler(view: View, name: str, ending: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        site = request.app[_SITE]
        if site.options.redacted and name not in REDACTED:
            raise Withheld("this page shows no names", do="ask the operator of the fleet")
        ask = await _asked(request)
        page = await view(site, ask)
        # Of large fleets and long records there is much to write. Others do not wait for it.
        if ending == ".json" or (not ending and _wants_json(request)):
            text = await asyncio.to_thread(_json_text, page, redacted=site.options.redacted)
            return web.Response(text=text, content_type="application/json")
        template = f"{name}.html" if not ending else f"{name}_part.html"
        context = _context(request, site, ask, page)
        text = await asyncio.to_thread(request.app[_RENDERER].render, template, context)
        return web.Response(text=text, content_type="text/html")

    return handle


def _json_text(page: Page, *, redacted: bool) -> str:
    return json.dumps(_for_json(page.data() if callable(page.data) else page.data, redacted=redacted))


def _for_json(data: Any, *, redacted: bool) -> Any:
    found = plain(data)
    if redacted and isinstance(found, dict) and "health" in found:
        for one in found["health"]["partitions"]:
            one["differs"] = {str(at): "differs" for at, _ in enumerate(one["differs"])}
        for one in found["health"]["problems"]:
            one["detail"] = ""
    return found


def _context(request: web.Request, site: Site, ask: Ask, page: Page) -> dict[str, Any]:
    health = page.more.get("health")
    flags = site.options.flags if page.flags is None else page.flags
    command = ""
    if page.words and not site.options.redacted:
        command = command_line(page.words, ask.as_of if page.takes_as_of else "", flags)
    here = {name: value for name, value in ask.values.items() if value}
    return {
        **page.more,
        "view": page.view,
        "title": page.title,
        "ask": ask,
        "here": here,
        "link": ask.address,
        "as_of": ask.as_of,
        "command": command,
        "json_address": ask.address(f"{page.view}.json", here),
        "strip": None if health is None else _strip(request.app, health, ask.as_of),
        "begin_ms": site.begin_ms,
        "pinned": "" if health is None else point_text(health.as_of),
    }


async def _asset(request: web.Request) -> web.Response:
    asset = request.app[_ASSETS].get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    if request.if_none_match and any(one.value == asset.tag for one in request.if_none_match):
        raise web.HTTPNotModified
    response = web.Response(body=asset.data, content_type=asset.content_type, charset="utf-8")
    response.etag = asset.tag
    return response


async def _fleet_bytes(request: web.Request) -> web.Response:
    data = await fleet.payload(request.app[_SITE], await _asked(request), request.app[_LIVE].begin)
    return web.Response(body=data, content_type="application/octet-stream")


async def _find(request: web.Request) -> web.Response:
    """Where a name leads: to the provider of that name, else to the consumer, else to a search in the fleet."""
    site = request.app[_SITE]
    if site.options.redacted:
        raise Withheld("this page shows no names", do="ask the operator of the fleet")
    ask = await _asked(request)
    name = ask.get("name")
    if not name:
        raise web.HTTPFound(ask.address("fleet", {}))
    view = await site.read(ask.as_of, lambda tables: _view_of(tables.query, name))
    raise web.HTTPFound(ask.address(view, {"search" if view == "fleet" else "id": name}))


def _view_of(query: Any, name: str) -> str:
    from vacancy.clients.inspection.lookup import provider_cells

    if provider_cells(query.reader, name):
        return "node"
    return "consumer" if query.allocations(name) else "fleet"


async def _events(request: web.Request) -> web.StreamResponse:
    """The events of one browser (see `live`)."""
    live = request.app[_LIVE]
    if live.is_full:
        raise web.HTTPServiceUnavailable(text="too many pages are open\n", headers={"Retry-After": "10"})
    response = web.StreamResponse(
        headers={**SECURITY_HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    group = "" if request.app[_SITE].options.redacted else request.query.get("group", "")
    events = live.events(request.query.get("class", ""), group)
    try:
        async for text in events:
            await asyncio.wait_for(response.write(text.encode()), _WRITE_S)
    except (ConnectionError, TimeoutError, asyncio.CancelledError):
        pass
    finally:
        await events.aclose()
    return response


def serve(site: Site, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve a site until SIGTERM or Ctrl-C. `started` is called with its address. Raises `UsageError` where it cannot listen."""
    asyncio.run(_serve(site, host, port, started))


async def _serve(site: Site, host: str, port: int, started: Callable[[str], None]) -> None:
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, stop.set)
    runner = web.AppRunner(make_app(site, host=host), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:  # the latter: no name of a host
            raise UsageError(
                f"the page cannot listen on {host}:{port}: {getattr(error, 'strerror', '') or error}",
                do="give another --host and --port",
            ) from error
        address, bound = runner.addresses[0][:2]
        shown = f"[{address}]" if ":" in address else address
        started(f"http://{shown}:{bound}/")
        await stop.wait()
    finally:
        await runner.cleanup()
