"""kafka-python's network, made to tell why it reaches nobody.

A client that looks for its brokers tries until its time is over, and then says only that. Here it is kept what came of
each server. What no further try would mend (credentials that are refused, a certificate that is not trusted, a
file that is not there) ends the search at once.
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

from vacancy.resources.model.errors import VacancyError
from vacancy.streams.kafka.errors import refusal, seen_as

_SILENT: Final = "does not answer"
_SERVERS_TOLD: Final = 3


class _Ended(KafkaError):  # type: ignore[misc]
    """The search for brokers is over: `_Manager.refused` says why."""


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    """Looks at how connections end, from the start until `looking` is taken away."""

    def __init__(self, net: NetworkSelector, where: str, **configuration: Any) -> None:
        super().__init__(net, **configuration)
        self.looking = True
        self.refused: VacancyError | None = None
        self.seen: dict[str, str] = {}
        self._where = where

    def get_connection(self, node_id: Any, *args: Any, **options: Any) -> Any:
        if not self.looking:
            return super().get_connection(node_id, *args, **options)
        if self.refused is not None:
            raise _Ended
        connection = super().get_connection(node_id, *args, **options)
        if not connection.close_future.is_done:
            connection.close_future.add_errback(partial(self._note, node_id))
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        if self.looking:
            transport._sock_recv = partial(_what_came_first, transport._sock_recv)
        return transport

    def _note(self, node_id: Any, error: Exception) -> None:
        if not self.looking:
            return
        self.refused = self.refused or refusal(error, self._where)
        broker = self.cluster.broker_metadata(node_id)
        server = str(node_id) if broker is None else f"{broker.host}:{broker.port}"
        seen = seen_as(error) or _SILENT
        if (
            seen != _SILENT or server not in self.seen
        ):  # the last try is cut short, whatever came of those before
            self.seen[server] = seen


def _what_came_first(receive: Any) -> tuple[bytes, Exception | None]:
    """A broker that refuses somebody says so and hangs up. kafka-python throws away what came together with the
    end of a connection; here the end is found at the next look."""
    data, error = receive()
    return data, None if data else error


class Network(KafkaNetClient):  # type: ignore[misc]
    """What kafka-python's clients take as `kafka_client`. `where` is the log's URL, for errors."""

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
        """What no further try would mend."""
        found: VacancyError | None = self._manager.refused
        return found

    @property
    def seen(self) -> str:
        """What came of the servers that were tried and not reached, for people; '' if nothing did."""
        all_seen = [f"{server} {what}" for server, what in sorted(self._manager.seen.items())]
        return ", ".join(all_seen[:_SERVERS_TOLD]) + (", …" if len(all_seen) > _SERVERS_TOLD else "")

    def looked(self) -> None:
        """The brokers were found, or given up: from now on whoever does not answer is tried again."""
        self._manager.looking = False
