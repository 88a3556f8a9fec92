"""The worker of a Kafka log, as a Faust application.

Faust provides the agent, the consumer group, the supervision and the web server. The projection holds the tables and
the position and commits both together. So neither Faust nor Kafka needs to be transactional, and a worker may be killed
at any moment.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import faust
import structlog
from aiokafka.errors import CorruptRecordException
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types import TP, EventT
from faust.types.transports import TransportT
from faust.types.web import Web
from mode import Service

from vacancy.resources.model.errors import (
    LogError,
    LogUnavailable,
    StoreInUse,
    StoreMismatch,
    StoreReleased,
    VacancyError,
)
from vacancy.resources.model.record import Record
from vacancy.streams.faust.consumer import FETCHED_MAX, BatchTransport
from vacancy.streams.faust.group import client_id, group_of, prepare_group
from vacancy.streams.faust.settings import faust_options
from vacancy.streams.faust.web import ListeningWeb, add_pages, web_options, web_socket
from vacancy.streams.kafka.errors import damaged_records
from vacancy.streams.log import READ_BYTES, Log, out_of_range
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.settings import WebAddress
from vacancy.streams.worker.partition_ownership import PartitionOwnership
from vacancy.streams.worker.position_check import check_position
from vacancy.streams.worker.projection_protocol import WorkerParts
from vacancy.streams.worker.rules_answers import RulesAnswers
from vacancy.streams.worker.state_digests import NEAR_END, DigestSender
from vacancy.streams.worker.ticks import Ticker

BATCH_MAX: Final = 500
"""Maximum number of records of all partitions that are collected before they are applied."""

_BUFFERED: Final = 16  # messages of up to FETCHED_MAX records between the fetcher and the agent
_HANDOVER_S: Final = 30.0
_RETRY_S: Final = 0.05
_WATCH_S: Final = 0.1
_SAMPLE_S: Final = 1.0
_READ_ENDS_S: Final = 5.0
_IDENTIFY_S: Final = 30.0

_events = structlog.get_logger("vacancy.worker")


class _Boot(BootStrategy):
    # Nothing is sent through Faust: ticks are sent with `Log.send`, as all events are.
    enable_kafka_producer = False


class _NoTables(TableManager):
    async def on_start(self) -> None:
        """As in Faust, without its wait of one second for tables."""
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):
    """See `make_app`. Call `prepare`, then `start`; `stop` releases everything."""

    BootStrategy = _Boot

    def __init__(
        self,
        log: Log,
        parts: WorkerParts,
        settings: Mapping[str, str],
        options: Mapping[str, Any],
        web_on: socket.socket | None,
    ) -> None:
        self.log_, self._settings = log, dict(settings)
        self._web_on = web_on
        self.log_name = log.name
        self.place = parse_log_url(log.url)
        self.ownership = PartitionOwnership(parts.projection, log.name, on_failed=self._on_failed)
        self._ticker = Ticker(
            log,
            parts.projection.next_deadline_ms,
            parts.tick_entry,
            overdue=parts.projection.overdue,
        )
        self._answers = RulesAnswers(log, parts.projection.unanswered, parts.answer_entry)
        self._digests = DigestSender(log, parts.digest_entries, parts.digest_interval)
        self._between_commits = parts.between_commits
        self._target: dict[int, int] = {}
        self.ready = False
        self.failure: VacancyError | None = None
        """The first error, with which the worker ends."""
        self.ended = asyncio.Event()
        """Set when the worker has failed and no partition can continue."""
        self._silent = self._joined = False
        self._identity: LogIdentity | None = None
        super().__init__(group_of(parts.projection.id), **options)

    @property
    def ticks(self) -> int:
        """The number of ticks sent."""
        return self._ticker.sent

    @property
    def position(self) -> dict[int, int]:
        """Owned partition -> the offset after the last record applied."""
        return self.ownership.position

    @property
    def errors(self) -> dict[int, VacancyError]:
        """Partition -> the error that stopped it."""
        return self.ownership.errors

    @property
    def web_address(self) -> str | None:
        """The address of the HTTP pages; None if they are disabled."""
        if not self.conf.web_enabled:
            return None
        return f"{self.conf.web_bind}:{self.conf.web_port}"

    # -- before it joins ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check that the log is still the one that the tables were folded from and has the records they need, and commit
        the positions of the tables to the consumer group. Partitions of another worker are checked by that worker.

        Raises LogError and StoreError with the offsets concerned.
        """
        projection, log = self.ownership.projection, self.log_
        self._identity = log.identity()
        start, end = log.start(), log.end()
        self._target = dict(end)
        positions = {}
        try:
            for partition in range(projection.partitions):
                try:
                    positions[partition] = self.ownership.open(partition).position
                except StoreInUse:
                    continue
                position = positions[partition]
                check_position(log, projection, partition, position, start=start, end=end)
            owns_all = len(positions) == projection.partitions
            prepare_group(self.place, self._settings, self.conf.id, positions, owns_all=owns_all)
        except BaseException:
            self.ownership.close()
            raise
        # No partition is kept until the group assigns it: a worker that joined first may have been assigned all of them
        # and would wait for those kept here, while this worker waits to join.
        self.ownership.keep_only(())

    # -- called by the consumer (streams/faust/consumer.py: ConsumerOwner) ------------------------------------

    async def take_over(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Open partitions; wait for those that another worker has not released yet."""
        deadline = time.monotonic() + _HANDOVER_S
        for partition in [p for p, error in self.errors.items() if isinstance(error, StoreInUse)]:
            del self.errors[partition]  # it may have been released since
        positions = {}
        for partition in partitions:
            if partition in self.errors:
                continue
            one = await self._open(partition, deadline)
            if one is not None:
                positions[partition] = one
        self._joined = True
        self._update_ready()
        return positions

    async def _open(self, partition: int, deadline: float) -> int | None:
        while True:
            try:
                one = self.ownership.open(partition)
            except StoreInUse as error:
                if time.monotonic() > deadline:
                    self.ownership.fail(partition, error)
                    return None
            except VacancyError as error:
                self.ownership.fail(partition, error)
                return None
            else:
                one.saw_end(self._target.get(partition, 0), self.ownership.clock())
                self._ticker.start(partition)
                self._answers.start(partition)
                self._digests.start(partition)
                return one.position
            await asyncio.sleep(_RETRY_S)
            if self.should_stop:
                return None

    async def out_of_range(self, partition: int, offset: int) -> int | None:
        """Stop the partition: its next records are gone, or others have their offsets. If the log has the offset after
        all, as after a change of leaders, return it to continue there."""
        try:
            start, end = await asyncio.to_thread(lambda: (self.log_.start(), self.log_.end()))
        except LogError as unknown:
            self._log_is_silent(unknown)
            await asyncio.sleep(_SAMPLE_S)
            return offset
        if start[partition] <= offset <= end[partition]:
            return offset
        error = out_of_range(self.log_name, partition, offset, start[partition], end[partition])
        self.ownership.fail(partition, error)
        return None

    def saw_end(self, partition: int, end: int) -> None:
        """Record the current end of the log."""
        one = self.ownership.held.get(partition)
        if one is not None:
            one.saw_end(end, self.ownership.clock())

    def kafka_failed(self, error: Exception) -> None:
        """End the worker: no record can be fetched any more."""
        if isinstance(error, CorruptRecordException):
            self.end(damaged_records(error, self.log_.url))
            return
        self.end(
            LogError(
                f"Kafka failed ({type(error).__name__})", where=self.log_.url, do="read the brokers' logs"
            )
        )

    # -- assignment -------------------------------------------------------------------------------------------

    async def revoked(self, _: object, revoked: Iterable[TP], **__: Any) -> None:
        """The group starts a rebalance: apply nothing until the partitions are assigned again."""
        self.ownership.suspend(tp.partition for tp in revoked)

    async def assigned(self, _: object, assigned: Iterable[TP], **__: Any) -> None:
        """Release the partitions that are assigned to another worker now, so that it can open them."""
        numbers = {tp.partition for tp in assigned}
        for partition in set(self.ownership.held) - numbers:
            self._ticker.stop(partition)
        self.ownership.keep_only(numbers)
        known = self.ownership.projection.partitions
        if any(partition >= known for partition in numbers):
            what = f"partition {max(numbers)} was added to the log, it was created with {known} partitions"
            do = "never change the number of partitions: create a new log and publish again"
            self.end(LogError(what, where=self.log_.url, do=do))
        if not numbers:
            self._joined = True
            self._update_ready()

    # -- folding ----------------------------------------------------------------------------------------------

    def fold(self, events: Sequence[EventT[Any]]) -> None:
        """Apply the collected records, partition by partition, and acknowledge them."""
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for event in events:
            by_partition[event.message.partition] += cast("list[Record]", event.value)
        applied = set()
        for partition, records in by_partition.items():
            if self.ownership.apply(partition, records):
                applied.add(partition)
                self._ticker.start(partition)
                self._answers.start(partition)
        for event in events:
            if event.message.partition in applied:
                event.ack()
        if not self.ready:
            self._update_ready()

    @property
    def caught_up(self) -> bool:
        """Whether each owned partition that has not stopped is at the end that the log had when the worker started.

        It is true if no partition is owned: then other workers of the store own them.
        """
        return self._joined and all(
            one.partition in self.errors
            or (one.active and one.position >= self._target.get(one.partition, 0))
            for one in self.ownership.held.values()
        )

    def _update_ready(self) -> None:
        self.ready = self.ready or (self.caught_up and not self.errors)

    # -- ends -------------------------------------------------------------------------------------------------

    def _on_failed(self, error: VacancyError) -> None:
        self.failure = self.failure or error
        if self.ownership.all_failed:
            self.ended.set()

    def end(self, error: VacancyError) -> None:
        """End the worker: no partition can be followed any more."""
        self.failure = self.failure or error
        self.ended.set()

    async def on_stop(self) -> None:
        """Release the partitions first, so that the next owner need not wait for the rest of the shutdown."""
        self.ownership.close()
        await super().on_stop()

    def _create_directories(self) -> None:
        """Create none: they are for Faust's own tables."""

    def _new_transport(self) -> TransportT:
        return BatchTransport(self.conf.broker_consumer, self)

    def _new_web(self) -> Web:
        return super()._new_web() if self._web_on is None else ListeningWeb(self, self._web_on)

    def close_web(self) -> None:
        """Give back the web address, also where nothing was served there."""
        if self._web_on is not None:
            self._web_on.close()

    # -- background task --------------------------------------------------------------------------------------

    @Service.task
    async def _watch(self) -> None:
        """Send ticks, answers and digests, do what is due between commits, measure rates, read the ends of the log, and check
        that it is still the same log."""
        sampled = read = identified = 0.0
        while not self.should_stop:
            await self.sleep(_WATCH_S)
            now = time.monotonic()
            await self._tick()
            await self._answer()
            await self._say_digests()
            if self._between_commits is not None:
                try:
                    self._between_commits()
                except StoreReleased as released:
                    self.end(released)
                    return
            if now - sampled >= _SAMPLE_S:
                sampled = now
                self.ownership.sample_rate()
            if now - read >= _READ_ENDS_S:
                read = now
                identify = now - identified >= _IDENTIFY_S
                identified = now if identify else identified
                await self._read_ends(identify=identify)

    async def _tick(self) -> None:
        for one in list(self.ownership.held.values()):
            if (
                one.active
                and not one.lag
                and one.partition not in self.errors
                and self._ticker.due(one.partition)
            ):
                try:
                    await asyncio.to_thread(self._ticker.send, one.partition)
                except LogError as error:
                    self._log_is_silent(error)

    async def _answer(self) -> None:
        """Answer proposed rules in each partition that is at the end of the log."""
        for one in list(self.ownership.held.values()):
            if not one.active or one.lag or one.partition in self.errors:
                continue
            try:
                answers = self._answers.due(one.partition)
                if answers:
                    await asyncio.to_thread(self._answers.send, one.partition, answers)
            except LogError as error:
                self._log_is_silent(error)

    async def _say_digests(self) -> None:
        """Send digests and marks, of each partition that is near the end of the log."""
        for one in list(self.ownership.held.values()):
            if not one.active or one.lag > NEAR_END or one.partition in self.errors:
                continue
            try:
                entry = self._digests.due(one.partition)
                if entry is not None:
                    await asyncio.to_thread(self._digests.send, one.partition, entry)
            except LogError as error:
                self._log_is_silent(error)

    async def _read_ends(self, *, identify: bool) -> None:
        try:
            ends = await asyncio.to_thread(self.log_.end)
        except LogUnavailable as error:
            self._log_is_silent(error)
            return
        except LogError as error:
            self.end(error)
            return
        if self._silent:
            self._silent = False
            _events.warning("log answers again", log=self.log_name)
        for partition, end in ends.items():
            self.saw_end(partition, end)
        if identify:
            await self._identify()

    async def _identify(self) -> None:
        try:
            found = await asyncio.to_thread(self.log_.identity)
        except LogError:
            return  # the first records may be gone by now; this worker is past them and does not need them
        if found != self._identity:
            do = "rebuild the store from this log, or restore the previous log"
            self.end(StoreMismatch("the log was replaced while this worker ran", where=self.log_.url, do=do))

    def _log_is_silent(self, error: VacancyError) -> None:
        if not self._silent:
            self._silent = True
            _events.warning("log does not answer", log=self.log_name, error=str(error))


def make_app(
    log: Log, parts: WorkerParts, settings: Mapping[str, str], web: WebAddress | None = None
) -> WorkerApp:
    """Make a worker that follows `log`, a Kafka log, which the caller closes.

    `settings` are Kafka client settings under their own names. Raises UsageError for an invalid setting, and for a web
    address that cannot be listened on.
    """
    place = parse_log_url(log.url)
    web = web or WebAddress()
    kafka_options = faust_options(place.servers, settings)
    web_on = web_socket(web)
    options = {
        "broker_client_id": client_id(),
        "broker_max_poll_records": FETCHED_MAX,
        "consumer_auto_offset_reset": "none",
        "stream_buffer_maxsize": _BUFFERED,
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "worker_redirect_stdouts": False,
        "TableManager": _NoTables,
        "Worker": "vacancy.streams.faust.worker:CommandWorker",
        **kafka_options,
        **web_options(web, web_on),
    }
    app = WorkerApp(log, parts, settings, options, web_on)
    app.boot_strategy.enable_web = app.conf.web_enabled
    app.on_partitions_revoked.connect(cast(Any, app.revoked))
    app.on_partitions_assigned.connect(cast(Any, app.assigned))
    add_pages(app, web.page)
    topic = app.topic(
        place.place, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    @app.agent(topic, name="fold")
    async def fold(stream: Any) -> None:
        """Collect waiting events until none is left or there are enough, then apply them."""
        waiting = cast("asyncio.Queue[object]", stream.channel.queue)
        collected: list[EventT[Any]] = []
        count = size = 0
        async for event in stream.noack().events():
            collected.append(event)
            records = cast("list[Record]", event.value)
            count += len(records)
            size += sum(len(record.value) for record in records)
            if count < BATCH_MAX and size < READ_BYTES and not waiting.empty():
                continue
            try:
                app.fold(collected)
            except Exception as error:  # a bug: Faust would drop the collected events and continue
                await app.crash(error)
                raise
            collected, count, size = [], 0, 0

    return app
