"""Which snapshots stay, by count and by age."""

from __future__ import annotations

from vacancy.projections.snapshots.manifest import SnapshotManifest, SnapshotPartition
from vacancy.projections.snapshots.retention import furthest, superfluous


def snapshot(made_ms: int, position: int, log: str = "log") -> SnapshotManifest:
    part = SnapshotPartition(0, position, 0, 0, 3, "", ())
    return SnapshotManifest(1, f"{log}-{made_ms}", made_ms, "h", "1", "s", log, 1, (), "", (part,))


FOUR = [snapshot(made, 10 * made) for made in (1, 2, 3, 4)]


def ids(found: list[SnapshotManifest]) -> list[int]:
    return sorted(one.made_ms for one in found)


def test_the_newest_stay() -> None:
    assert ids(superfluous(FOUR, 5, keep=2, max_age_ms=None)) == [1, 2]
    assert ids(superfluous(FOUR, 5, keep=9, max_age_ms=None)) == []


def test_old_ones_go_but_for_the_newest() -> None:
    assert ids(superfluous(FOUR, 5, keep=None, max_age_ms=2)) == [1, 2]
    assert ids(superfluous(FOUR, 1000, keep=None, max_age_ms=2)) == [1, 2, 3]


def test_both_bounds_hold() -> None:
    assert ids(superfluous(FOUR, 5, keep=3, max_age_ms=2)) == [1, 2]


def test_without_a_bound_all_stay() -> None:
    assert superfluous(FOUR, 10**9, keep=None, max_age_ms=None) == []


def test_each_log_has_its_own() -> None:
    other = [snapshot(1, 5, "other"), snapshot(2, 6, "other")]
    assert ids(superfluous(FOUR + other, 5, keep=1, max_age_ms=None)) == [1, 1, 2, 3]


def test_a_host_that_is_behind_does_not_make_the_newest() -> None:
    late = snapshot(9, 11)
    assert furthest([*FOUR, late])[0].made_ms == 4
    assert late in superfluous([*FOUR, late], 9, keep=2, max_age_ms=None)
