"""The HTTP pages of a worker whose log does not answer: not ready, the reason, and the time waited.

They are served at the address where the worker serves its own pages later (`streams/faust/web.py`).
"""

from __future__ import annotations

import time

from vacancy.streams.pages.page_server import Page, PageServer, index_page, not_ready_page
from vacancy.streams.settings import WebAddress


class NotReadyServer:
    """Serves at `address` from the first `show` until `close`. `log` is the log's name.

    Raises UsageError if it cannot listen on the address.
    """

    def __init__(self, address: WebAddress, log: str) -> None:
        self._address, self._log = address, log
        self._since, self._why = 0.0, ""
        self._server: PageServer | None = None

    def show(self, since: float, why: str) -> None:
        """Serve that the worker waits since `since` (monotonic clock, seconds), and the reason `why`."""
        if self._address.port == "off":
            return
        self._since, self._why = since, why
        if self._server is None:
            self._server = PageServer(self._address, self._page)

    def close(self) -> None:
        """Stop serving, so that the worker can use the address."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def _page(self, path: str) -> Page | None:
        if not path:
            return index_page(self._log, self._address.page())
        waited_s = round(time.monotonic() - self._since, 1)
        return not_ready_page(path, self._log, waiting_seconds=waited_s, waiting_for=self._why)
