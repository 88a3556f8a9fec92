"""kafka-python's network layer, extended to report why no broker can be reached, and to find partitions that moved.

A client of kafka-python retries until its timeout and then reports only the timeout. Here the result of each connection
is recorded. An error that a retry cannot fix (refused credentials, an untrusted certificate, a missing file) ends the
search for brokers at once.

A broker that does not lead a partition any more refuses to say where it ends. kafka-python 3.0.12 then asks the same broker
again, without a pause, until its timeout, and each time it is called. Here it learns first who leads the partitions now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import ListOffsetsRequest

from vacancy.resources.model.errors import VacancyError
from vacancy.streams.kafka.errors import describe_connection_error, refusal

_SILENT: Final = "does not answer"
_SERVERS_SHOWN: Final = 3
_METADATA_MS: Final = 1_000


class _SearchEnded(KafkaError):  # type: ignore[misc]
    """The search for brokers has ended; `_Manager.refused` is the reason."""


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Records how connections end while it is `observing`. Asks who leads a partition if a broker refuses its offsets."""

    def __init__(self, net: NetworkSelector, where: str, **configuration: Any) -> None:
        super().__init__(net, **configuration)
        self.observing = True
        self.refused: VacancyError | None = None
        self.observed: dict[str, str] = {}
        self._where = where

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        answer = super().send(request, *args, **options)
        return self.call_soon(self._checked, answer) if isinstance(request, ListOffsetsRequest) else answer

    async def _checked(self, answer: Any) -> Any:
        response = await answer
        if any(partition.error_code for topic in response.topics for partition in topic.partitions):
            with contextlib.suppress(KafkaError):
                await self.wait_for(self.cluster.request_update(), _METADATA_MS)
        return response

    def get_connection(self, node_id: Any, *args: Any, **options: Any) -> Any:
        if not self.observing:
            return super().get_connection(node_id, *args, **options)
        if self.refused is not None:
            raise _SearchEnded
        connection = super().get_connection(node_id, *args, **options)
        if not connection.close_future.is_done:
            connection.close_future.add_errback(partial(self._note, node_id))
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        if self.observing:
            transport._sock_recv = partial(_receive_data_before_error, transport._sock_recv)
        return transport

    def _note(self, node_id: Any, error: Exception) -> None:
        if not self.observing:
            return
        self.refused = self.refused or refusal(error, self._where)
        broker = self.cluster.broker_metadata(node_id)
        server = str(node_id) if broker is None else f"{broker.host}:{broker.port}"
        observation = describe_connection_error(error) or _SILENT
        # The timeout cuts the last attempt short: it must not replace what an earlier one showed.
        if observation != _SILENT or server not in self.observed:
            self.observed[server] = observation


def _receive_data_before_error(receive: Any) -> tuple[bytes, Exception | None]:
    """Return received data first, and the end of the connection at the next call.

    A broker that refuses a client sends the reason and then closes the connection. kafka-python discards data that
    arrives together with the end of a connection.
    """
    data, error = receive()
    return data, None if data else error


class Network(KafkaNetClient):  # type: ignore[misc]
    """The `kafka_client` argument of kafka-python's clients. `where` is the log's URL, for errors."""

    def __init__(self, where: str, **configuration: Any) -> None:
        net = NetworkSelector(**configuration)
        super().__init__(net, _Manager(net, where, **configuration), **configuration)
        self._holding = self._wakeup_held = False

    def wakeup(self) -> None:
        """Wake the thread that sends, or remember to: see `one_wakeup`."""
        if self._holding:
            self._wakeup_held = True
        else:
            super().wakeup()

    @contextlib.contextmanager
    def one_wakeup(self) -> Iterator[None]:
        """Hold back wakeups until the end, then wake the sending thread once. For one thread at a time.

        kafka-python wakes its thread for every record that opens a batch. The thread then takes the interpreter lock and
        sends that batch in a request of its own. With one wakeup the batches of all partitions of a broker share a request.
        """
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._wakeup_held:
                self._wakeup_held = False
                super().wakeup()

    @property
    def refused(self) -> VacancyError | None:
        """The error that ended the search for brokers, because a retry cannot fix it."""
        found: VacancyError | None = self._manager.refused
        return found

    @property
    def observed(self) -> str:
        """How the connections to unreachable servers failed, as text; "" if none failed."""
        failures = [f"{server} {what}" for server, what in sorted(self._manager.observed.items())]
        return ", ".join(failures[:_SERVERS_SHOWN]) + (", …" if len(failures) > _SERVERS_SHOWN else "")

    def stop_observing(self) -> None:
        """End the search for brokers: they were found, or it failed. From now on kafka-python retries as usual."""
        self._manager.observing = False
