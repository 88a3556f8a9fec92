"""The state of a whole store: positions, states of nodes, dead letters. Nothing here writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

from vacancy.clients.inspection.answers import (
    AttributeType,
    ColumnsStatus,
    DeadLetterAnswer,
    PartitionStatus,
    StatusAnswer,
)
from vacancy.clients.inspection.contested import contested_nodes, machine_clashes
from vacancy.clients.inspection.lookup import excluded_devices, nodes
from vacancy.clients.inspection.signing import signing_summary
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.metadata import LOCAL_FAMILY
from vacancy.projections.store.state_digests import DIGESTS_KEY, decode_digests, difference_text
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    REQUESTS,
    VERDICTS,
)
from vacancy.streams.clocks.clock import wall_ms


def dead_letters(
    reader: StoreReader, *, partition: int | None = None, limit: int | None = None
) -> list[DeadLetterAnswer]:
    """The dead letters kept (the last 1,000 a partition), by partition and offset; the newest `limit` of each."""
    reader.catch_up()
    by_partition: dict[int, list[DeadLetterAnswer]] = {}
    for at, _, row in reader.scan(DEAD_LETTERS):
        if partition in (None, at):
            letter = DeadLetterAnswer(
                at,
                row.offset,
                row.timestamp_ms,
                row.reason,
                row.key.decode(errors="replace"),
                row.value.decode(errors="replace"),
                row.size,
            )
            by_partition.setdefault(at, []).append(letter)
    found = []
    for at in sorted(by_partition):
        newest = sorted(by_partition[at], key=lambda letter: letter.offset)
        found += newest if limit is None else newest[-limit:]
    return found


def status(reader: StoreReader, ends: Mapping[int, int] | None = None) -> StatusAnswer:
    """The state of the store. `ends` are the log's (partition -> the offset of its next record)."""
    reader.catch_up()
    contested = contested_nodes(reader)
    partitions = []
    for partition, position in reader.position.items():
        one = PartitionStatus(partition, position, time_ms=reader.log_time_ms(partition))
        one.ahead_s = 0.0 if reader.still else max(0, one.time_ms - wall_ms()) / 1000
        if ends is not None:
            one.end = ends[partition]
            one.lag = max(0, one.end - position)
        _count(one, reader)
        here = [node for node in contested if node.partition == partition]
        one.contested = sum(node.closed for node in here)
        one.dropped = sum(node.dropped for node in here)
        one.dropped_reports = sum(node.dropped_reports for node in here)
        partitions.append(one)
    clashes = {
        root: sorted(reader.view.name(row)[0] for row in rows)
        for root, rows in sorted(reader.view.clashes.items())
    }
    memory = reader.view.memory
    states = Counter(node.state for node in nodes(reader))
    return StatusAnswer(
        reader.manifest.store,
        reader.manifest.log,
        partitions,
        dict(sorted(states.items())),
        clashes,
        attribute_clashes(reader),
        ColumnsStatus(memory.bytes, memory.bytes_max, memory.left_out, list(memory.examples)),
        contested,
        machine_clashes(reader),
        excluded_devices(reader),
        {taint.text: count for taint, count in reader.view.taints.counted()},
        signing_summary(reader),
    )


def attribute_clashes(reader: StoreReader) -> dict[str, dict[str, AttributeType]]:
    """Attributes that have several types: name -> type -> the providers with that type."""
    view = reader.view
    found = {}
    for name, column in sorted(view.attributes.columns.items()):
        types = column.types(view.size)
        if len(types) > 1:
            found[name] = {
                type_: AttributeType(count, view.name(row)[1]) for type_, (count, row) in types.items()
            }
    return found


def _count(one: PartitionStatus, reader: StoreReader) -> None:
    raw = partial(reader.raw, one.partition)
    one.nodes = sum(1 for _ in raw(NODES.family))
    one.providers = sum(1 for _ in raw(PROVIDERS.family))
    one.allocations = sum(1 for _ in raw(ALLOCATIONS.family))
    one.verdicts = sum(1 for _ in raw(VERDICTS.family))
    one.requests_open = sum(1 for _, data in raw(REQUESTS.family) if not REQUESTS.decode(data).outcome)
    read_partition_state(one, reader)


def read_partition_state(one: PartitionStatus, reader: StoreReader) -> None:
    """Fill in what two rows of the partition say: digests, rules, dead letters. It counts nothing, so it is cheap."""
    raw = partial(reader.raw, one.partition)
    digests = decode_digests(dict(raw(LOCAL_FAMILY)).get(DIGESTS_KEY))
    if digests.own:
        one.digested, one.digest = digests.own[-1]
    one.differs = {other.store: difference_text(other) for other in digests.stores if other.differed}
    for name, data in raw(PARTITION.family):
        if name == PARTITION_KEY:
            row = PARTITION.decode(data)
            one.rules_version, one.classes = row.rules_version, list(row.classes)
            one.dead_letters = row.dead_letters
