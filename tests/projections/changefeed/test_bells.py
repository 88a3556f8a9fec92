"""A commit wakes the schedulers whose claims it has decided, after it can be read, and nothing depends on that."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator

import pytest

from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, reported
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.changefeed import bells
from vacancy.projections.changefeed.bells import BELLS, Bells, bell_path
from vacancy.projections.changefeed.shared_ring import RingReader
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.state.tables import VERDICTS, key
from vacancy.streams.files.file_events import RUNG, FileEvents


@pytest.fixture
def store() -> Iterator[Store]:
    with opened_store(1) as made:
        yield made


@pytest.fixture
def tape(store: Store) -> Tape:
    """The tape that the store has folded: a node with two VCPUs."""
    made = Tape(1)
    store.apply(0, made.records[0])
    write(store, made, reported("n1", [provider("n1", VCPU=2)]))
    return made


def write(store: Store, tape: Tape, *values: bytes) -> None:
    """Commit records."""
    store.apply(0, [tape.append(tape.cells[0], value) for value in values])


def asked(name: str, vcpus: int = 1) -> bytes:
    """A claim of this id."""
    return claims(claim(name, f"i-{name}", "n1", {"VCPU": vcpus}, START_MS + 1000))


def test_a_commit_rings_the_bells_of_its_verdicts_and_no_others(store: Store, tape: Tape) -> None:
    watched = {name: FileEvents([bell_path(store.path, name.encode())], RUNG) for name in ("ab", "cd", "ef")}

    def rung() -> set[str]:
        return {name for name, one in watched.items() if one.wait(0.0)}

    assert rung() == set()  # it watches from now on
    write(store, tape, asked("ab-1"))
    assert rung() == {"ab"}
    write(store, tape, asked("ab-2", vcpus=9), asked("cd-1"))  # one is rejected, and one accepted
    assert rung() == {"ab", "cd"}
    beat = event("node.heartbeat.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2})
    write(store, tape, beat)
    assert rung() == set()
    tape.now_ms = START_MS + 60_000
    write(store, tape, beat)
    assert store.partition(0).get(VERDICTS, key(tape.cells[0], "ab-1")) is None, "the verdicts have expired"
    assert rung() == set()
    for one in watched.values():
        one.close()


def test_who_is_woken_finds_the_commit(store: Store, tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RingReader(partition_path(store.path, 0))
    found = []

    def ring(_: Bells, verdicts: Iterable[bytes]) -> None:
        found.append((len(list(verdicts)), reader.look()[0]))

    monkeypatch.setattr(Bells, "ring", ring)
    write(store, tape, asked("ab-1"), asked("cd-1"))
    assert found == [(2, store.partition(0).local.feed_next)]
    reader.close()


def test_bells_are_made_again_and_a_worker_needs_none(store: Store, tape: Tape) -> None:
    directory = store.path / bells.DIRECTORY
    assert len(list(directory.iterdir())) == BELLS
    assert directory.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o640}
    one = bell_path(store.path, b"ab")
    one.unlink()
    write(store, tape, asked("ab-1"))
    assert one.exists()
    shutil.rmtree(directory)
    write(store, tape, asked("ab-2"))
    assert not directory.exists()
    store.release(0)
    store.open(0)
    assert one.exists()


def test_two_characters_choose_among_all_bells(store: Store) -> None:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    chosen = {bell_path(store.path, f"{a}{b}".encode()) for a in alphabet for b in alphabet}
    assert len(chosen) == BELLS
    assert bell_path(store.path, b"ab") == bell_path(store.path, b"ab and more")
