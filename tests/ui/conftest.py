"""The fleet that the pages show, and a server for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sites.ui_site import HOSTILE, NEVER_S, NODE, Fleet, served


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("ui"))
    made.claim("pinned", {"NUMA_CELL": {"pinned": 2}, "PCI_DEVICE": 1}, f"{NODE}:numa1")
    made.claim("web-1", {"VCPU": 4}, consumer_type="<b>" + HOSTILE[:40])
    made.disable("node-00003", HOSTILE)
    made.refused()
    made.fold()
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(fleet: Fleet) -> Iterator[str]:
    with served(fleet, silent_s=NEVER_S) as found:
        yield found
