"""Log lines go to standard error: as text at a terminal, as JSON otherwise. All text in them is printable."""

from __future__ import annotations

import logging
import os
import sys

import structlog

from vacancy.streams.printable import INDENT, make_process_printable, printable, printable_lines


def configure_logs(*, verbose: bool) -> None:
    """Send structlog's and the standard library's events to standard error, warnings only unless `verbose`."""
    make_process_printable()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    is_terminal = sys.stderr.isatty()
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors="NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback
        )
        if is_terminal
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _make_printable,
                render,
            ],
        )
    )
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)
    # The client logs every connection that it tries; the important part is in our own errors.
    logging.getLogger("kafka").setLevel(logging.INFO if verbose else logging.CRITICAL)


def _make_printable(
    logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    del logger, method
    return {printable(name): _printable_value(name, value) for name, value in event.items()}


def _printable_value(name: str, value: object) -> object:
    if name in ("exception", "stack") and isinstance(value, str):
        return printable_lines(value, INDENT)
    if value is None or isinstance(value, bool | int | float):
        return value
    return printable(value if isinstance(value, str) else repr(value))
