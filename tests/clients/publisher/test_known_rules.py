"""What a publisher without tables finds out about the rules of its log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.logs.events_json import claim, claims, event, provider, reported, rules_in_steps
from tests.support.logs.node_logs import UnreliableLog
from vacancy.clients.publisher.known_rules import LAST_RECORDS, KnownRules
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.runtime.bootstrap import opening_records
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.events import ProviderReport, Rules
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, create_log

CELL = "auto-0"
TOLERANT = event("claims.requested.v2", {"claims": [claim("c", "i", "n", {"VCPU": 1}, 1)]})
OTHER_NODE = event("node.reported.v2", {"root": "n"})


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka')}/rules-{uuid4().hex[:8]}"
    return f"memory://{uuid4()}" if request.param == "memory" else f"sqlite://{tmp_path}/log.db"


def made(url: str, version: int, *values: bytes) -> Log:
    log = create_log(url, 1, opening_records(1, Rules(version=version)))
    write(log, values)
    return log


def write(log: Log, values: Sequence[bytes]) -> None:
    if values:
        log.append([NewRecord(CELL, value) for value in values])


def known(log: Log) -> int:
    rules = KnownRules(log, 0).look()
    assert rules is not None
    return rules.version


def test_a_log_that_was_raised_is_known_by_its_last_records(url: str) -> None:
    """The first look finds version 3. A look after the activation finds version 4, also without the first one."""
    with made(url, 3, reported("n", [provider("n", VCPU=1)])) as log:
        running = KnownRules(log, 0)
        for _ in range(2):
            found = running.look()
            assert found is not None
            assert found.version == 3
        write(log, rules_in_steps(4))
        found = running.look()
        assert found is not None
        assert found.version == known(log) == 4


@pytest.mark.parametrize(
    "values",
    [
        [rules_in_steps(4)[0], rules_in_steps(4)[2]],
        [rules_in_steps(4)[1], rules_in_steps(4)[2]],
        [rules_in_steps(4)[2]],
        [
            *rules_in_steps(4)[:2],
            event("rules.withdrawn.v1", {"proposal": "the-proposal"}),
            rules_in_steps(4)[2],
        ],
        [*rules_in_steps(4)[:2], rules_in_steps(4, ["PORTS"])[2]],
        [
            rules_in_steps(4)[0],
            event(
                "rules.supported.v1",
                {"proposal": "the-proposal", "store": "s", "missing": ["rules version 4"]},
            ),
            rules_in_steps(4)[2],
        ],
        [event("log.opened.v1", {"rules": {"version": 4}})],
        [OTHER_NODE],
        [claims(claim("c", "i", "n", {"VCPU": 1}, 1))],
        [
            b'{"type": "vacancy.claims.requested.v2"',
            b'{"data": [{"type": "vacancy.claims.requested.v2"}]}',
            b"\xff",
        ],
    ],
)
def test_what_the_fold_refuses_raises_nothing(values: list[bytes]) -> None:
    with made(f"memory://{uuid4()}", 3, *values) as log:
        assert known(log) == 3


def test_the_first_versions_are_raised_in_one_step() -> None:
    with made(f"memory://{uuid4()}", 1, event("rules.activated.v1", {"version": 3})) as log:
        assert known(log) == 3


def test_later_events_of_others_prove_the_version_when_the_activation_is_far_back() -> None:
    many = [event("tick.v1", {})] * LAST_RECORDS
    with made(f"memory://{uuid4()}", 3, *rules_in_steps(4), *many) as log:
        assert known(log) == 3
        write(log, [TOLERANT])
        assert known(log) == 4


def test_a_log_of_a_later_build_is_taken_for_the_newest_of_this_one() -> None:
    with made(f"memory://{uuid4()}", RULES_VERSION + 1) as log:
        assert known(log) == RULES_VERSION


def test_tables_on_the_host_are_asked_first_and_the_log_while_they_are_behind() -> None:
    with made(f"memory://{uuid4()}", 3, *rules_in_steps(4)) as log:
        real = UnreliableLog(log)
        assert KnownRules(real, 0, lambda: 4).look() is not None
        found = KnownRules(log, 0, lambda: 3).look()
        assert found is not None
        assert found.version == 4


def test_nothing_is_known_of_a_log_that_does_not_answer() -> None:
    log = made(f"memory://{uuid4()}", 4)
    log.close()
    assert KnownRules(log, 0).look() is None


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as opened:
        yield opened


def test_a_running_publisher_takes_the_new_form_with_the_next_full_report(url: str, outbox: Outbox) -> None:
    gpus = {"PGPU": {"devices": {"81:00.0": {}}, "unhealthy": {"81:00.0": "ECC"}}}
    node = (ProviderReport.model_validate({"id": "n", "inventories": gpus}),)
    with made(url, 3) as log:
        publisher = Publisher(log, "n", CELL, outbox, machine="m", rules=KnownRules(log, 0).look)
        publisher.report(node)
        publisher.flush()
        write(log, rules_in_steps(4))
        publisher.changed(node)
        publisher.flush()
        publisher.report(node)
        publisher.flush()
        end = log.end()[0]
        values = [log.read(0, offset, 1, timeout_s=10.0)[0].value for offset in range(end)]
    reports = [one for one in values if b"vacancy.node." in one]
    assert [b"node.reported.v2" in one for one in reports] == [False, False, True]
    assert [b'"unhealthy"' in one for one in reports] == [False, False, True]
    assert [b'"machine":"m"' in one for one in reports] == [False, False, True]
