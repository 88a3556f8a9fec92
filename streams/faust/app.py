"""The worker of a Kafka log, as a Faust application.

Faust brings the agent, the consumer group, the supervision and the web server. What is folded, and how far, is
the projection's: records and position are committed there as one, so nothing of Faust's or of Kafka's needs to
be transactional, and a worker may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import faust
import structlog
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types import TP, EventT
from faust.types.transports import TransportT
from mode import Service

from vacancy.resources.model.errors import LogError, LogUnavailable, StoreInUse, StoreMismatch, VacancyError
from vacancy.resources.model.record import Record
from vacancy.streams.faust.consumer import FETCHED_MAX, BatchTransport
from vacancy.streams.faust.group import client_id, group_of, prepare_group
from vacancy.streams.faust.settings import faust_options
from vacancy.streams.faust.web import add_pages, web_options
from vacancy.streams.log import Log, out_of_range
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.partition_ownership import PartitionOwnership
from vacancy.streams.position_check import check_position
from vacancy.streams.projection_protocol import WorkerParts
from vacancy.streams.settings import WebAddress
from vacancy.streams.ticks import Ticker

BATCH_MAX: Final = 500
"""Records of all partitions that are taken together before they are applied, where so many wait."""

_BUFFERED: Final = 16  # messages of up to FETCHED_MAX records between the fetcher and the agent
_HANDED_OVER_S: Final = 30.0
_RETRY_S: Final = 0.05
_WATCH_S: Final = 0.1
_SAMPLE_S: Final = 1.0
_ASK_S: Final = 5.0
_IDENTIFY_S: Final = 30.0

_events = structlog.get_logger("vacancy.streams.embedded_worker")


class _Boot(BootStrategy):
    # Nothing is sent through Faust: ticks go the way all events go.
    enable_kafka_producer = False


class _NoTables(TableManager):
    async def on_start(self) -> None:
        """Faust waits a second here for tables to be made."""
        await self._update_channels()
        await self.recovery.start()


class WorkerApp(faust.App):
    """See `make_app`. `prepare` comes first, then `start`; `stop` gives everything back."""

    BootStrategy = _Boot

    def __init__(
        self, log: Log, parts: WorkerParts, settings: Mapping[str, str], options: Mapping[str, Any]
    ) -> None:
        self.log_, self._settings = log, dict(settings)
        self.log_name = log.name
        self.place = parse_log_url(log.url)
        self.holdings = PartitionOwnership(parts.projection, log.name, on_failed=self._on_failed)
        self._ticker = Ticker(log, parts.projection.next_deadline_ms, parts.tick_entry)
        self._target: dict[int, int] = {}
        self.ready = False
        self.failure: VacancyError | None = None
        """Why the worker must end: the first thing that failed."""
        self.ended = asyncio.Event()
        """Set when there is a failure and nothing is left to do."""
        self._silent = self._joined = False
        self._identity: LogIdentity | None = None
        super().__init__(group_of(parts.projection.id), **options)

    @property
    def ticks(self) -> int:
        """Ticks sent."""
        return self._ticker.sent

    @property
    def position(self) -> dict[int, int]:
        """Partition held -> the offset after the last record applied."""
        return self.holdings.position

    @property
    def errors(self) -> dict[int, VacancyError]:
        """Partition -> why it was stopped."""
        return self.holdings.errors

    @property
    def web_address(self) -> str | None:
        """Where the pages are served, once started."""
        if not self.conf.web_enabled:
            return None
        return f"{self.conf.web_bind}:{self.conf.web_port}"

    # -- before it joins ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Check that the log still is the one the tables were folded from and has what they need, and tell the
        group where they stand. Partitions that another worker holds are its to check.

        Raises LogError and StoreError with the offsets concerned.
        """
        projection, log = self.holdings.projection, self.log_
        self._identity = log.identity()
        start, end = log.start(), log.end()
        self._target = dict(end)
        positions = {}
        try:
            for partition in range(projection.partitions):
                try:
                    positions[partition] = self.holdings.open(partition).position
                except StoreInUse:
                    continue
                position = positions[partition]
                check_position(log, projection, partition, position, start=start, end=end)
            alone = len(positions) == projection.partitions
            prepare_group(self.place, self._settings, self.conf.id, positions, alone=alone)
        except BaseException:
            self.holdings.close()
            raise
        # Nothing is held until the group says so: a worker that joined first may have been given all of it, and
        # would wait for what is held here while this one waits to be let in.
        self.holdings.keep_only(())

    # -- what the consumer asks (faust_consumer.Owner) --------------------------------------------------------

    async def take_over(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Open partitions; those that another worker still holds are waited for."""
        deadline = time.monotonic() + _HANDED_OVER_S
        for partition in [p for p, error in self.errors.items() if isinstance(error, StoreInUse)]:
            del self.errors[partition]  # it may have been given back since
        positions = {}
        for partition in partitions:
            if partition in self.errors:
                continue
            one = await self._open(partition, deadline)
            if one is not None:
                positions[partition] = one
        self._joined = True
        self._look_whether_ready()
        return positions

    async def _open(self, partition: int, deadline: float) -> int | None:
        while True:
            try:
                one = self.holdings.open(partition)
            except StoreInUse as error:
                if time.monotonic() > deadline:
                    self.holdings.fail(partition, error)
                    return None
            except VacancyError as error:
                self.holdings.fail(partition, error)
                return None
            else:
                one.saw_end(self._target.get(partition, 0), self.holdings.clock())
                self._ticker.start(partition)
                return one.position
            await asyncio.sleep(_RETRY_S)
            if self.should_stop:
                return None

    async def out_of_range(self, partition: int, offset: int) -> int | None:
        """Records are gone, or others stand where they stood: stop. Where the log has the offset after all, as
        after a change of leaders, go on."""
        try:
            start, end = await asyncio.to_thread(lambda: (self.log_.start(), self.log_.end()))
        except LogError as unknown:
            self._log_is_silent(unknown)
            await asyncio.sleep(_SAMPLE_S)
            return offset
        if start[partition] <= offset <= end[partition]:
            return offset
        error = out_of_range(self.log_name, partition, offset, start[partition], end[partition])
        self.holdings.fail(partition, error)
        return None

    def saw_end(self, partition: int, end: int) -> None:
        """Note how far the log is."""
        one = self.holdings.held.get(partition)
        if one is not None:
            one.saw_end(end, self.holdings.clock())

    def kafka_failed(self, error: Exception) -> None:
        """Nothing can be fetched any more."""
        self.end(
            LogError(
                f"Kafka failed ({type(error).__name__})", where=self.log_.url, do="see the brokers' logs"
            )
        )

    # -- assignment -------------------------------------------------------------------------------------------

    async def revoked(self, _: object, revoked: Iterable[TP], **__: Any) -> None:
        """The group is being rebalanced: nothing is applied until it is known who has what."""
        self.holdings.suspend(tp.partition for tp in revoked)

    async def assigned(self, _: object, assigned: Iterable[TP], **__: Any) -> None:
        """Give back what is another worker's now, so that it can open it."""
        numbers = {tp.partition for tp in assigned}
        for partition in set(self.holdings.held) - numbers:
            self._ticker.stop(partition)
        self.holdings.keep_only(numbers)
        known = self.holdings.projection.partitions
        if any(partition >= known for partition in numbers):
            what = f"The log was given partition {max(numbers)}, it was opened with {known} partitions"
            do = "never change the partitions of a log: make a new one and republish"
            self.end(LogError(what, where=self.log_.url, do=do))
        if not numbers:
            self._joined = True
            self._look_whether_ready()

    # -- folding ----------------------------------------------------------------------------------------------

    def fold(self, events: Sequence[EventT[Any]]) -> None:
        """Apply what was taken, partition by partition, and acknowledge it."""
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for event in events:
            by_partition[event.message.partition] += cast("list[Record]", event.value)
        applied = set()
        for partition, records in by_partition.items():
            if self.holdings.apply(partition, records):
                applied.add(partition)
                self._ticker.start(partition)
        for event in events:
            if event.message.partition in applied:
                event.ack()
        if not self.ready:
            self._look_whether_ready()

    @property
    def caught_up(self) -> bool:
        """Whether each partition held, if it was not stopped, is where the log ended when the worker started.

        So it is where none is held: then other workers of the store have them.
        """
        return self._joined and all(
            one.partition in self.errors
            or (one.active and one.position >= self._target.get(one.partition, 0))
            for one in self.holdings.held.values()
        )

    def _look_whether_ready(self) -> None:
        self.ready = self.ready or (self.caught_up and not self.errors)

    # -- ends -------------------------------------------------------------------------------------------------

    def _on_failed(self, error: VacancyError) -> None:
        self.failure = self.failure or error
        if self.holdings.all_failed:
            self.ended.set()

    def end(self, error: VacancyError) -> None:
        """End the worker: nothing of the log can be followed any more."""
        self.failure = self.failure or error
        self.ended.set()

    async def on_stop(self) -> None:
        """Give the tables back first, so that whoever takes over need not wait for the rest."""
        self.holdings.close()
        await super().on_stop()

    def _create_directories(self) -> None:
        """Faust's own tables would be there."""

    def _new_transport(self) -> TransportT:
        return BatchTransport(self.conf.broker_consumer, self)

    # -- beside the stream ------------------------------------------------------------------------------------

    @Service.task
    async def _watch(self) -> None:
        """Tick, measure, and look now and then whether the log still is what it was."""
        sampled = asked = identified = 0.0
        while not self.should_stop:
            await self.sleep(_WATCH_S)
            now = time.monotonic()
            await self._tick()
            if now - sampled >= _SAMPLE_S:
                sampled = now
                self.holdings.sample_rate()
            if now - asked >= _ASK_S:
                asked = now
                identify = now - identified >= _IDENTIFY_S
                identified = now if identify else identified
                await self._ask(identify=identify)

    async def _tick(self) -> None:
        for one in list(self.holdings.held.values()):
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

    async def _ask(self, *, identify: bool) -> None:
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
            return  # its first records may be gone by now, which a worker that is past them need not mind
        if found != self._identity:
            do = "rebuild the store from this log, or bring back the one that was"
            self.end(StoreMismatch("the log was made anew under this worker", where=self.log_.url, do=do))

    def _log_is_silent(self, error: VacancyError) -> None:
        if not self._silent:
            self._silent = True
            _events.warning("log does not answer", log=self.log_name, error=str(error))


def make_app(
    log: Log, parts: WorkerParts, settings: Mapping[str, str], web: WebAddress | None = None
) -> WorkerApp:
    """A worker that follows `log`, which must be Kafka's and stays its caller's to close.

    `settings` are Kafka client settings by their own names. Raises UsageError for one that cannot be used, and
    for a web address that cannot be listened on.
    """
    place = parse_log_url(log.url)
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
        **faust_options(place.servers, settings),
        **web_options(web or WebAddress()),
    }
    app = WorkerApp(log, parts, settings, options)
    app.boot_strategy.enable_web = app.conf.web_enabled
    app.on_partitions_revoked.connect(cast(Any, app.revoked))
    app.on_partitions_assigned.connect(cast(Any, app.assigned))
    add_pages(app)
    topic = app.topic(
        place.place, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    @app.agent(topic, name="fold")
    async def fold(stream: Any) -> None:
        """Take what waits, until nothing does or it is enough; then apply it."""
        waiting = cast("asyncio.Queue[object]", stream.channel.queue)
        taken: list[EventT[Any]] = []
        count = 0
        async for event in stream.noack().events():
            taken.append(event)
            count += len(cast("list[Record]", event.value))
            if count < BATCH_MAX and not waiting.empty():
                continue
            try:
                app.fold(taken)
            except Exception as error:  # a fault of the program: Faust would drop what was taken and go on
                await app.crash(error)
                raise
            taken, count = [], 0

    return app
