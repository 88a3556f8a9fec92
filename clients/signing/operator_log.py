"""A log in which everything that operators decide is signed with an operator's key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import Final

from vacancy.clients.signing.key_pair import KeyPair
from vacancy.clients.signing.signer import EventSigner
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord
from vacancy.streams.forwarding_log import ForwardingLog
from vacancy.streams.log import SEND_S, Log, Receipt

_TYPE: Final = re.compile(rb'"type":\s?"(vacancy\.[a-z0-9.]+)"')
_SIGNED: Final = frozenset(
    model.model_fields["type"].default.encode()
    for model in (
        events.OperatorSettingsSet,
        events.OperatorSettingsSetV2,
        events.NodeAdopted,
        events.NodeRenamed,
        events.NodeRetiredV2,
        events.TransactionRequested,
        events.SigningPolicySet,
        events.SigningKeysSet,
    )
)
"""What an operator's key signs. Publishers write no retirement of this form: theirs has a sequence number."""


class OperatorLog(ForwardingLog):
    """See `Log`; all calls go to `log`. Records of operators get a signature of `key`, the others are left as they are."""

    def __init__(self, log: Log, key: KeyPair) -> None:
        super().__init__(log)
        self.key = key
        self._sending = Lock()
        self._signer = EventSigner(key, lambda: log.identity().log)

    def _signed(self, entries: Sequence[NewRecord]) -> list[NewRecord]:
        return [
            NewRecord(one.key, self._signer.sign(one.value, one.key)) if _is_of_operator(one.value) else one
            for one in entries
        ]

    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """See `Log.send`."""
        with self._sending:  # what is signed first must be sent first
            return self._log.send(self._signed(entries), timeout_s)


def _is_of_operator(value: bytes) -> bool:
    found = _TYPE.search(value)
    return found is not None and found[1] in _SIGNED
