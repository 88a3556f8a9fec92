"""Faust's Kafka consumer, changed to start at the positions of the tables and to pass on records in batches.

It differs from Faust's own consumer in three ways:

- The position of a partition is that of its tables. Faust reads the committed offsets whenever partitions were assigned
  (`seek_to_committed`); here it gets the tables' positions. The group's committed offsets are for monitoring only.
- One Faust message carries all records of a partition that were fetched together, as a list of `Record`. What Faust does
  for each message (four tasks, a lock, three objects) takes longer than folding a record.
- Records are passed on without gaps. Records that were lost, as happens when a partition is revoked during a fetch, are
  fetched again. A gap that remains is in the log itself; it is passed on, and the tables reject it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, cast

from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP, ConsumerMessage, Message
from faust.types.transports import ConsumerT
from mode import Service, ServiceT
from mode.utils.futures import maybe_async

from vacancy.resources.model.record import Record

FETCHED_MAX: Final = 500
"""Maximum number of records in one message."""

_TRIES: Final = 3
_COMMIT_S: Final = 5.0


class ConsumerOwner(Protocol):
    """The methods that the consumer calls on its app. Partitions are given by number."""

    async def take_over(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Open partitions. Returns partition -> position of those that can be followed."""

    async def out_of_range(self, partition: int, offset: int) -> int | None:
        """Handle that the log does not have `offset`. Returns the offset to continue at, or None to stop."""

    def saw_end(self, partition: int, end: int) -> None:
        """Record the current end of the log."""

    def kafka_failed(self, error: Exception) -> None:
        """Handle that no record can be fetched any more."""


class _InLoop(AIOKafkaConsumerThread):
    """Faust's consumer thread without the thread: the client runs in the event loop of the app.

    A thread of its own would pass each fetch between the threads twice and wait for the interpreter lock each time while
    records are folded. Folding occupies the loop for some tens of milliseconds at most, which heartbeats tolerate.
    """

    def __init__(self, consumer: Consumer, *, loop: asyncio.AbstractEventLoop, beacon: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, beacon=beacon)

    async def start(self) -> None:
        """Start the client."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Stop the client, which leaves the group."""
        if self._started.is_set() and not self._stopped.is_set():
            self._stopped.set()
            await self.on_thread_stop()
            await self._default_stop_children()
            await self._default_stop_futures()
            await self._default_stop_exit_stacks()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `fun` in this loop."""
        return await maybe_async(fun(*args, **kwargs))

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets to the group. A failure loses nothing, so it is logged and not raised."""
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        known = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        try:
            await asyncio.wait_for(consumer.commit(known), _COMMIT_S)
        except (KafkaError, TimeoutError, ValueError) as error:
            self.log.info("offsets not committed: %r", error)
            return False
        return True


class BatchConsumer(Consumer):
    """The consumer described in the docstring of this module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        self._gaps: dict[TP, int] = {}

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _InLoop(self, loop=self.loop, beacon=self.beacon)

    @property
    def _owner(self) -> ConsumerOwner:
        return cast(ConsumerOwner, self.app)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek all partitions to the positions of their tables. Those that cannot be followed are paused."""
        assigned = {tp.partition: tp for tp in self.assignment()}
        positions = await self._owner.take_over(sorted(assigned))
        self.pause_partitions({tp for p, tp in assigned.items() if p not in positions})
        found = {assigned[p]: offset for p, offset in positions.items()}
        self._next = dict(found)
        self._gaps.clear()
        await self._thread.seek_wait(found)
        return found

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield a message for each partition that has new records."""
        try:
            found, _ = await self._wait_next_records(timeout)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            await self._out_of_range(error)
            return
        except ConsumerStoppedError:
            raise
        except KafkaError as error:
            self._owner.kafka_failed(error)
            return
        if not found or self.should_stop:
            return
        generation = self.app.consumer_generation_id
        for tp, raw in found.items():
            # Records dropped here are fetched again: either a rebalance seeks again, or `_in_order` finds the gap.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            records = await self._in_order(tp, raw)
            if records:
                end = self.highwater(tp)
                if end is not None:
                    self._owner.saw_end(tp.partition, end)
                yield tp, _message(tp, raw[-1], records, generation)

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Pass on messages until the fetcher stops, as Faust does, but without extra tasks if the queue has space.

        Faust starts four tasks for each message, in case it must wait and a rebalance happens meanwhile.
        """
        fetching = cast(Service, fetcher)
        try:
            while not (self._stopped.is_set() or fetching.should_stop):
                await asyncio.sleep(0)
                async for tp, message in self.getmany(timeout=1.0):
                    if self._has_room(tp):
                        await self.callback(message)
                    else:
                        await self.wait_first(self.callback(message), self.suspend_flow.wait())
                    self._read_offset[tp] = message.offset
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    def _has_room(self, tp: TP) -> bool:
        """Whether a message can be queued without waiting."""
        channels = cast(Any, self.app.topics)._tp_index.get(tp, ())
        return self.app.flow_control.is_active() and not any(channel.queue.full() for channel in channels)

    async def _in_order(self, tp: TP, raw: Sequence[Any]) -> list[Record]:
        """The records that continue those passed on before; none if they must be fetched again."""
        wanted = self._next.get(tp)
        if wanted is None:
            return []
        if raw[0].offset > wanted:
            self._gaps[tp] = self._gaps.get(tp, 0) + 1
            if self._gaps[tp] < _TRIES:
                await self._thread.seek_wait({tp: wanted})
                return []
        else:
            self._gaps.pop(tp, None)
        self._next[tp] = raw[-1].offset + 1
        partition = tp.partition
        return [
            Record(partition, one.offset, one.timestamp, one.key or b"", one.value or b"")
            for one in raw
            if one.offset >= wanted
        ]

    async def _out_of_range(self, error: OffsetOutOfRangeError | NoOffsetForPartitionError) -> None:
        found = error.args[0]  # one of the two errors has one partition, the other several
        for topic, partition in [found] if isinstance(found, tuple) else found:
            tp = TP(topic, partition)
            if tp not in self._next:
                continue
            offset = await self._owner.out_of_range(tp.partition, self._next[tp])
            if offset is None:
                self.pause_partitions({tp})
            else:
                await self._thread.seek_wait({tp: offset})

    # A message has several records, so acknowledged offsets are not consecutive. Faust must not treat that as a gap.

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        pass

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        last = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return last + 1

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: the worker's own metrics show partitions that are stopped or slow."""


def _message(tp: TP, last: Any, records: list[Record], generation: int) -> ConsumerMessage:
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000,
        last.timestamp_type,
        None,
        None,
        cast(bytes, records),
        None,
        tp=tp,
        generation_id=generation,
    )


class BatchTransport(Transport):
    """Faust's transport with `BatchConsumer`."""

    Consumer: ClassVar[type[ConsumerT]] = BatchConsumer
