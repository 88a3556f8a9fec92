"""Writes the names in a store to the files that the shells' completion reads: `python -m vacancy.cli.completion_names STORE`.

Each TAB may start it in the background. So it writes nothing to standard output and standard error, and at most one process runs
for a store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vacancy.cli.completion import names_directory

NAMES_MAX: Final = 2_000_000
"""Names of a kind that are kept. A file of that number has about 80 MB."""

_is_plain = re.compile(r"[\w.:/@%+,][\w.:/@%+,-]*", re.ASCII).fullmatch
"""Names with other characters would have to be quoted, and differently in each shell."""


def write_names(store: Path) -> None:
    """Write the names of all nodes, providers and consumers of a store. Raises StoreError or OSError; does nothing while
    another process does the same."""
    directory = names_directory(store)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for kind, names in _read(store).items():
            _write(directory / kind, names)


def _read(store: Path) -> dict[str, set[str]]:
    from vacancy.clients.runtime.bootstrap import installed_registry
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.resources.state.tables import ALLOCATIONS, NODES, PROVIDERS

    families = {"node": NODES.family, "provider": PROVIDERS.family, "consumer": ALLOCATIONS.family}
    with StoreReader(store, installed_registry(), with_view=False) as reader:
        return {
            kind: {
                key.partition(b"\0")[2].decode(errors="replace")
                for partition in range(reader.manifest.partitions)
                for key, _ in reader.raw(partition, family)
                if key.count(b"\0")
            }
            for kind, family in families.items()
        }


def _write(file: Path, names: Iterable[str]) -> None:
    plain = sorted(name for name in names if _is_plain(name))[:NAMES_MAX]
    draft = file.with_suffix(".new")
    draft.write_text("\n".join(plain), encoding="ascii")
    draft.replace(file)


if __name__ == "__main__":
    os.nice(10)
    with contextlib.suppress(Exception):
        write_names(Path(sys.argv[1]))
