"""Runs the Faust application: directly, for `vacancy worker`, and under the `faust` command."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn, cast

import faust
from aiokafka.errors import KafkaError

from vacancy.resources.model.errors import LogError, VacancyError
from vacancy.streams.faust.app import WorkerApp
from vacancy.streams.printable import printable
from vacancy.streams.worker.shutdown import StopSignal, on_stop

_READY_POLL_S: Final = 0.02
_STOP_S: Final = 25.0


def run_app(
    app: WorkerApp, stop_signal: StopSignal, on_ready: Callable[[WorkerApp], None] | None = None
) -> None:
    """Prepare and run the app until `stop_signal` requests a stop or it fails.

    `on_ready` is called once every partition has either folded all records that were in the log at the start or has
    stopped. Raises what `WorkerApp.prepare` raises, LogUnavailable if the brokers stop answering before it has joined,
    and at the end the error of the first partition that failed.
    """
    if not logging.getLogger().isEnabledFor(logging.INFO):
        # It warns about every rebalance, and about every retry while brokers are down. The app logs what matters.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        app.prepare()
        app.web.init_server()
        try:
            asyncio.run(_run(app, stop_signal, on_ready))
        finally:
            app.ownership.close()
    finally:
        app.close_web()
    if app.failure is not None:
        raise app.failure


async def _run(app: WorkerApp, stop_signal: StopSignal, on_ready: Callable[[WorkerApp], None] | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has already ended
            loop.call_soon_threadsafe(stop.set)

    on_stop(stop_signal, end)
    started = asyncio.ensure_future(_start(app))
    ends = [asyncio.ensure_future(one) for one in (stop.wait(), app.ended.wait(), app.wait_until_stopped())]
    ready = asyncio.ensure_future(_report_ready(app, on_ready))
    try:
        done, _ = await asyncio.wait([started, *ends], return_when=asyncio.FIRST_COMPLETED)
        if done == {started}:
            started.result()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (started, ready, *ends):
            one.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.stop(), _STOP_S)
    if app.crash_reason is not None and app.failure is None:
        raise app.crash_reason


async def _start(app: WorkerApp) -> None:
    try:
        await app.start()
    except KafkaError as error:
        await asyncio.to_thread(app.log_.end)  # raises LogUnavailable if the brokers do not answer
        do = "check that security.protocol, sasl.* and ssl.* match the brokers', then try again"
        what = f"Kafka refused the worker ({type(error).__name__})"
        raise LogError(what, where=app.log_.url, do=do) from error


async def _report_ready(app: WorkerApp, on_ready: Callable[[WorkerApp], None] | None) -> None:
    while on_ready is not None:
        if app.ready or (app.errors and app.caught_up):
            on_ready(app)
            return
        await asyncio.sleep(_READY_POLL_S)


class CommandWorker(faust.Worker):
    """The worker of the `faust` command. An expected error is printed as one line and sets the exit code."""

    def execute_from_commandline(self) -> NoReturn:
        """Prepare, and run until stopped."""
        app = cast(WorkerApp, self.app)
        code: Any = 0
        try:
            app.prepare()
            super().execute_from_commandline()
        except VacancyError as error:
            app.failure = error
        except SystemExit as ended:
            code = ended.code
        finally:
            app.ownership.close()
            app.close_web()
        if app.failure is not None:
            sys.stderr.write(f"{printable(str(app.failure))}\n")
            sys.exit(app.failure.exit_code)
        sys.exit(code)

    async def on_first_start(self) -> None:
        """Stop when no partition can continue."""
        await super().on_first_start()
        self.add_future(self._stop_when_ended())

    async def _stop_when_ended(self) -> None:
        await cast(WorkerApp, self.app).ended.wait()
        self._schedule_shutdown(signal.SIGTERM)
