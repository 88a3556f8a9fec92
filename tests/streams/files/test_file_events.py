"""A file that is used wakes who waits for it, and nothing depends on that."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from vacancy.streams.files import file_events
from vacancy.streams.files.file_events import OPENED, RUNG, FileEvents


def waits(events: FileEvents, timeout_s: float) -> tuple[bool, float]:
    started = time.monotonic()
    return events.wait(timeout_s), time.monotonic() - started


def test_who_waits_is_woken_by_what_others_do_and_by_each_thing_once(tmp_path: Path) -> None:
    events = FileEvents([tmp_path], OPENED)
    assert events.works
    assert not events.wait(0.0)
    for _ in range(1000):
        os.close(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    assert events.wait(0.0)
    assert not events.wait(0.0)
    timer = threading.Timer(0.05, lambda: os.close(os.open(tmp_path, os.O_RDONLY)))
    timer.start()
    woken, took_s = waits(events, 30.0)
    timer.join()
    assert woken
    assert took_s < 15.0
    events.close()
    assert waits(events, 0.01)[1] >= 0.01


def test_a_file_that_comes_later_or_again_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_events, "_WATCH_AGAIN_S", 0.0)
    path = tmp_path / "file"
    events = FileEvents([path], RUNG)
    assert not events.wait(0.0)
    for _ in range(2):
        path.write_bytes(b"")
        events.wait(0.0)
        path.write_bytes(b"changed")
        assert events.wait(1.0)
        path.unlink()
    events.close()


def test_without_events_it_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_events, "_libc", lambda: None)
    events = FileEvents([tmp_path], OPENED)
    assert not events.works
    woken, took_s = waits(events, 0.02)
    assert not woken
    assert took_s >= 0.02
    events.close()
