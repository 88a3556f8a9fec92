"""Python's garbage collector in processes that keep many objects: workers and schedulers."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Lock

_THRESHOLDS = (100_000, 50, 50)

_lock = Lock()
_users = 0
_before: tuple[int, int, int] = gc.get_threshold()


def spare_collector(*, collect: bool = True) -> Callable[[], None]:
    """Keep the garbage collector from the objects that the process has now, and have it run less often.

    Workers and views keep hundreds of thousands of rows that refer to nothing. To walk them again and again takes
    milliseconds each time and frees nothing. `collect`: collect the garbage first, because it is kept, too.

    Returns a function that undoes it. It is undone when all who asked for it have undone it.
    """
    global _users, _before
    if collect:
        gc.collect()
    with _lock:
        if _users == 0:
            _before = gc.get_threshold()
        _users += 1
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)
    return _Undo()


class _Undo:
    """Undoes one `spare_collector`, once."""

    def __init__(self) -> None:
        self._done = False

    def __call__(self) -> None:
        global _users
        with _lock:
            if self._done:
                return
            self._done = True
            _users -= 1
            if _users == 0:
                gc.unfreeze()
                gc.set_threshold(*_before)
