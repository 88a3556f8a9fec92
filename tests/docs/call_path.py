"""Which modules of the product run in a piece of code, in the order in which they run first.

`sys.setprofile` sees every Python function in every thread of the process, so the list is what happens, not what the
imports suggest. Code that runs at import is left out.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("resources", "projections", "streams", "clients", "cli")


@contextmanager
def modules_that_run() -> Iterator[dict[str, None]]:
    """Fills a dict whose keys are the modules (`resources/fold/fold.py`), by the order of their first call."""
    found: dict[str, None] = {}

    def on_event(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and (module := _module_of(frame.f_code)):
            found.setdefault(module)

    threading.setprofile(on_event)
    sys.setprofile(on_event)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@cache
def _module_of(code: CodeType) -> str:
    """The module of a function of the product, or nothing: for other code, and for the bodies of modules and classes."""
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return ""
    file = Path(code.co_filename)
    if not file.is_file():
        return ""
    path = file.resolve()
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in PACKAGES:
        return ""
    return path.relative_to(ROOT).as_posix()
