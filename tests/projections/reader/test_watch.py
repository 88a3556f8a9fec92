"""`StoreReader.watch`: the keys of changed rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.logs.followed_log import followed_log
from vacancy.resources.state.tables import PROVIDERS, key


def test_a_watcher_receives_everything_first_and_then_keys_of_changed_rows(tmp_path: Path) -> None:
    seen: list[tuple[str, list[bytes]]] = []

    def watcher(table: str, keys: Sequence[bytes]) -> None:
        seen.append((table, list(keys)))

    with followed_log(tmp_path) as followed:
        followed.reader.watch(watcher)
        assert seen == [("", [])]
        followed.report("node-1", cell="c")
        assert (PROVIDERS.name, [key("c", "node-1")]) in seen
        followed.reader.unwatch(watcher)
        seen.clear()
        followed.report("node-2", cell="c")
        assert seen == []
