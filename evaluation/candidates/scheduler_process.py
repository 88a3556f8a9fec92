"""The process of one scheduler: `python -m evaluation.candidates.scheduler_process`.

It reads JSON objects from its standard input, one a line: first what to connect to, then jobs. It writes one line with the
result of each. `{"job": "end"}` ends the job that is under way: its calls are brought to their ends. The process ends when its
input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict
from itertools import count
from typing import Any, Final

from evaluation.candidates import jobs
from evaluation.candidates.candidate import Connection, Fleet, NotOffered
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.processes import memory_bytes
from evaluation.candidates.registry import connect

_PAUSE_AFTER_FAILURE_S: Final = 0.02
"""How long a scheduler waits after it found no room, or after an answer that did not come, before it asks the store again."""

_REASONS_KEPT: Final = 5


async def main() -> None:
    """Serve jobs until the input ends."""
    lines = _input_lines()
    first = await anext(lines)
    connection = await connect(json.loads(first))
    _answer({"ready": os.getpid()})
    try:
        await _serve(connection, lines)
    finally:
        await connection.close()


async def _serve(connection: Connection, lines: AsyncIterator[bytes]) -> None:
    """Run one job after the other. Lines are read while a job is under way, so that it can be ended."""
    waiting: asyncio.Queue[jobs.Job | None] = asyncio.Queue()
    ended = asyncio.Event()

    async def read() -> None:
        async for line in lines:
            data = json.loads(line)
            if data["job"] == jobs.END:
                ended.set()
            else:
                ended.clear()
                waiting.put_nowait(jobs.JOBS[data["job"]].from_json(data))
        ended.set()
        waiting.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        while (job := await waiting.get()) is not None:
            _answer((await run(connection, job, ended)).as_json())
    finally:
        reading.cancel()


async def _input_lines() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=1 << 26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


def _answer(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


async def run(connection: Connection, job: jobs.Job, ended: asyncio.Event) -> JobResult:
    """Run a job, until it is done or `ended` is set. `NotOffered` becomes part of the result."""
    result = JobResult()
    await asyncio.sleep(max(0.0, job.start_at - time.monotonic()))
    cpu = time.process_time()
    result.started = time.monotonic()
    try:
        await _RUN[type(job)](connection, job, result, ended)
    except NotOffered as reason:
        result.not_offered = str(reason)
    result.ended = time.monotonic()
    result.cpu_s = round(time.process_time() - cpu, 4)
    result.memory_bytes = memory_bytes(os.getpid())
    return result


async def _side_by_side(tasks: int, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` a number of times at once. The first error ends all of them."""
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(_awaited(work))


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()


async def _all(tasks: int, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await _side_by_side(tasks, work)
    except* NotOffered as group:
        raise group.exceptions[0] from None


# -- jobs -------------------------------------------------------------------------------------------------------------


async def _place(connection: Connection, job: jobs.Place, result: JobResult, ended: asyncio.Event) -> None:
    end = result.started + job.seconds if job.seconds else float("inf")
    numbers = iter(range(job.most)) if job.most else count()
    full = False

    async def schedule() -> None:
        nonlocal full
        while not (full and job.until_full) and not ended.is_set() and time.monotonic() < end:
            number = next(numbers, None)
            if number is None:
                return
            asked = number % len(job.requests)
            consumer = f"{job.prefix}-{number}"
            began = time.monotonic()
            outcome = await connection.place(consumer, job.requests[asked])
            result.conflicts += outcome.conflicts
            if outcome.status == "placed":
                result.took(began, time.monotonic())
                result.placed.append((consumer, outcome.provider, asked))
                if job.release_every and number % job.release_every == 0:
                    await _release_one(connection, consumer, result)
                continue
            result.by_status.setdefault(outcome.status, []).append(consumer)
            if outcome.reason and len(result.reasons) < _REASONS_KEPT:
                result.reasons.append(" ".join(outcome.reason.split()))
            full |= outcome.status == "no_room"
            # A store that answers at once waits too: the end of the job has to be read.
            if outcome.status != "conflict":
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)

    await _all(job.in_flight, schedule)


async def _release_one(connection: Connection, consumer: str, result: JobResult) -> None:
    if await connection.release(consumer):
        result.released.append(consumer)
    else:
        result.not_released.append(consumer)


async def _query(connection: Connection, job: jobs.Query, result: JobResult, ended: asyncio.Event) -> None:
    end = result.started + job.seconds
    for number in range(job.most):
        began = time.monotonic()
        found = await connection.query(job.requests[number % len(job.requests)], job.limit)
        now = time.monotonic()
        result.took(began, now)
        result.found += len(found)
        if job.keep:
            result.names = found
        if now > end or ended.is_set():
            return
        if job.pause_s:
            await asyncio.sleep(job.pause_s)


async def _heartbeats(
    connection: Connection, job: jobs.Heartbeats, result: JobResult, ended: asyncio.Event
) -> None:
    end = result.started + job.seconds
    numbers = count()

    async def beat() -> None:
        while (began := time.monotonic()) < end and not ended.is_set():
            number = next(numbers)
            due = result.started + number / job.rate if job.rate else began
            if due >= end:
                return
            await asyncio.sleep(max(0.0, due - began))
            began = time.monotonic()
            try:
                await connection.heartbeat(Fleet.name(job.first + number % job.nodes))
            except ConnectionError:
                result.errors += 1
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
            else:
                result.took(began, time.monotonic())

    await _all(job.in_flight, beat)


async def _release(
    connection: Connection, job: jobs.Release, result: JobResult, ended: asyncio.Event
) -> None:
    left: Iterator[str] = iter(job.consumers)

    async def release() -> None:
        for consumer in left:
            if ended.is_set():
                return
            began = time.monotonic()
            await _release_one(connection, consumer, result)
            result.took(began, time.monotonic())

    await _all(job.in_flight, release)


async def _watch(connection: Connection, job: jobs.Watch, result: JobResult, ended: asyncio.Event) -> None:
    end = result.started + job.seconds
    while (began := time.monotonic()) < end and not ended.is_set():
        found = await connection.query(job.requests[0], 1)
        result.took(began, time.monotonic())
        if bool(found) != job.until_empty:
            result.found = 1
            return
        await asyncio.sleep(0)


async def _read(connection: Connection, job: jobs.Read, result: JobResult, ended: asyncio.Event) -> None:
    for _ in range(job.most):
        if ended.is_set():
            return
        began = time.monotonic()
        whole = await connection.whole(job.consumer)
        result.took(began, time.monotonic())
        result.whole = {
            "request": whole.request.as_json(),
            "held": asdict(whole.held),
            "totals": dict(whole.totals),
            "reads": whole.reads,
        }


_RUN: Final[dict[type[jobs.Job], Callable[[Connection, Any, JobResult, asyncio.Event], Awaitable[None]]]] = {
    jobs.Place: _place,
    jobs.Query: _query,
    jobs.Heartbeats: _heartbeats,
    jobs.Release: _release,
    jobs.Watch: _watch,
    jobs.Read: _read,
}

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
