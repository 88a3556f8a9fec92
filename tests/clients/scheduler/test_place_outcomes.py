"""Placing ends with what is known: what a consumer holds already, and why the record of its claim was refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logs.followed_log import followed_log
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.errors import ConsumerExists
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Receipt


def test_the_rejection_of_a_consumer_that_exists_names_what_it_holds(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        site.report("node-1")
        with site.scheduler() as scheduler:
            scheduler.check_new("vm-1")
            placed = scheduler.place(PlacementRequest("resources=VCPU:2", consumer="vm-1"))
            with pytest.raises(
                ConsumerExists, match=f"it holds 2 VCPU of node-1 in cell {placed.cell} by claim"
            ) as raised:
                scheduler.place(PlacementRequest("resources=VCPU:1", consumer="vm-1"))
            assert raised.value.exit_code == 7
            with pytest.raises(ConsumerExists, match=placed.claim):
                scheduler.check_new("vm-1")


def test_a_claim_whose_record_is_refused_is_an_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with followed_log(tmp_path) as site:
        site.report("node-1")
        send = site.log.send

        def send_broken(entries: list[NewRecord], timeout_s: float = 10.0) -> Receipt:
            return send(
                [
                    NewRecord(key, value.replace(b"claims.requested.v2", b"claims.wished.v2"))
                    for key, value in entries
                ]
            )

        monkeypatch.setattr(site.log, "send", send_broken)
        with site.scheduler() as scheduler:
            with pytest.raises(
                RecordRefused, match=r"claim \w+ of vm-1 was refused: .*claims.wished"
            ) as raised:
                scheduler.place(PlacementRequest("resources=VCPU:2", consumer="vm-1"), timeout_s=3.0)
            assert raised.value.exit_code == 1
