"""Who must sign, as the auditor reads docs/signing.md: its own code, but for the signature itself, which is one of a library."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.event_schema import ReadEvent
from vacancy.resources.model.record import Record

REVOKED_MAX: Final = 64

_MARK: Final = b',"signature":"'
_LENGTH: Final = 134
_TEXT: Final = re.compile(r"\A([0-9a-f]{16})\.([0-9a-f]{14})\.([A-Za-z0-9_-]{86})\Z")
_FROM_NODES: Final = {
    "node.reported",
    "node.reported.v2",
    "node.changed",
    "node.heartbeat",
    "node.retired",
    "node.retired.v2",
    "node.running",
}
_FROM_OPERATORS: Final = {
    "facts.set",
    "facts.set.v2",
    "node.adopted",
    "node.renamed",
    "node.retired.v2",
    "transaction.requested",
}
_OF_KEYS: Final = {"signing.policy.set", "signing.keys.set"}


class _Signed(NamedTuple):
    key: str
    number: int
    signature: bytes
    content: bytes


@dataclass(slots=True)
class _KeyRing:
    """The keys of somebody: id -> public key. `last` are the numbers that were used, by key and kind of event."""

    revision: int = 0
    keys: dict[str, bytes] = field(default_factory=dict)
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def set(self, event: ReadEvent, named: Iterable[str]) -> bool:
        """Replace the keys. False: the event was applied before. Raises `Refused`."""
        if event.data["revision"] != self.revision + 1:
            if event.id in self.events:
                return False
            raise Refused
        if event.data.get("required") and not event.data.get("operators"):
            raise Refused
        keys: dict[str, bytes] = {}
        for text in dict.fromkeys(named):
            public = bytes.fromhex(text)
            id_ = hashlib.sha256(public).hexdigest()[:16]
            if id_ in keys or _is_weak(public) or (self.keys.get(id_) != public and id_ in self.revoked):
                raise Refused
            keys[id_] = public
        # By key, not by id: two keys of one id can be made, with much work.
        gone = sorted((public, id_) for id_, public in self.keys.items() if keys.get(id_) != public)
        self.revoked = [*(id_ for _, id_ in gone), *self.revoked][:REVOKED_MAX]
        self.last = {
            of: number for of, number in self.last.items() if keys.get(of[0]) == self.keys.get(of[0])
        }
        self.keys, self.revision = keys, self.revision + 1
        self.events = [event.id, *self.events][:8]
        return True


class AuditedSignatures:
    """Who signs in one partition. Nothing is checked before a policy was set."""

    def __init__(self) -> None:
        self.log = ""
        self._operators = _KeyRing()
        self._nodes: dict[Key, _KeyRing] = {}
        self._required: list[tuple[str, str]] = []
        self._is_set = False
        self._used: tuple[_KeyRing, tuple[str, str], int] | None = None

    def check(self, record: Record, event: ReadEvent) -> None:
        """Raises `Refused` where the record's signature is missing or wrong. It is called before the event is applied."""
        cell, kind = record.key.decode(), event.kind
        self._used = None
        if kind in _OF_KEYS:
            self._check_keys(record, cell, event)
        elif not self._is_set:
            return
        elif kind in _FROM_NODES and event.data.get("sequence") is not None:
            self._check_node(record, cell, event)
        elif kind in _FROM_OPERATORS and (kind != "transaction.requested" or event.data.get("providers")):
            signed = _read(record.value)
            if signed is None or signed.key not in self._operators.keys:
                if any(_fits(cells, cell) for cells, _ in self._required):
                    raise Refused
            elif kind == "transaction.requested":
                self._verify(self._operators.keys[signed.key], signed, cell)
            else:
                self._use(self._operators, signed, cell, "")

    def accept(self) -> None:
        """The event of the last record was taken, so the number of its signature was used."""
        if self._used is not None:
            ring, of, number = self._used
            if of[0] in ring.keys:
                ring.last[of] = number

    def must_sign(self, cell: str, root: str) -> bool:
        """Whether a node must sign."""
        return any(_fits(cells, cell) and _fits(nodes, root) for cells, nodes in self._required)

    def has_keys(self, cell: str, root: str) -> bool:
        """Whether a node has a key."""
        ring = self._nodes.get((cell, root))
        return ring is not None and bool(ring.keys)

    def set_policy(self, event: ReadEvent) -> None:
        """Set the keys of operators, and who must sign. Raises `Refused`."""
        named, required = event.data.get("operators", ()), event.data.get("required", ())
        if self._operators.set(event, named):
            self._required = [(one.get("cell", "*"), one.get("node", "*")) for one in required]
            self._is_set = True

    def set_keys(self, cell: str, event: ReadEvent) -> None:
        """Set the keys of a node. Raises `Refused`."""
        key = (cell, event.data["root"])
        ring = self._nodes.get(key, _KeyRing())
        ring.set(event, event.data.get("keys", ()))
        self._nodes[key] = ring

    def _check_keys(self, record: Record, cell: str, event: ReadEvent) -> None:
        signed = _read(record.value)
        if self._operators.keys:
            if signed is None or signed.key not in self._operators.keys:
                raise Refused
            self._use(self._operators, signed, cell, "")
            return
        if event.kind != "signing.policy.set" or signed is None:
            raise Refused
        if event.data["revision"] != self._operators.revision + 1:
            raise Refused
        for text in event.data.get("operators", ()):
            public = bytes.fromhex(text)
            if hashlib.sha256(public).hexdigest()[:16] == signed.key:
                if signed.number <= 0:
                    raise Refused
                self._verify(public, signed, cell)
                self._used = (self._operators, (signed.key, ""), signed.number)
                return
        raise Refused

    def _check_node(self, record: Record, cell: str, event: ReadEvent) -> None:
        root = event.data["root"]
        ring, signed = self._nodes.get((cell, root)), _read(record.value)
        if ring is None or signed is None or signed.key not in ring.keys:
            if self.must_sign(cell, root):
                raise Refused
            return
        self._use(ring, signed, cell, "running" if event.kind == "node.running" else "")

    def _use(self, ring: _KeyRing, signed: _Signed, cell: str, what: str) -> None:
        if signed.number <= ring.last.get((signed.key, what), 0):
            raise Refused
        self._verify(ring.keys[signed.key], signed, cell)
        self._used = (ring, (signed.key, what), signed.number)

    def _verify(self, public: bytes, signed: _Signed, cell: str) -> None:
        head = "\n".join(("vacancy event signature 1", self.log, cell, signed.key, str(signed.number), ""))
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(
                signed.signature, head.encode() + signed.content
            )
        except (InvalidSignature, ValueError):
            raise Refused from None


def _read(value: bytes) -> _Signed | None:
    """The signature at the end of a value, or None."""
    start = len(value) - _LENGTH
    if start < 0 or value[start : start + len(_MARK)] != _MARK or value[-2:] != b'"}':
        return None
    try:
        found = _TEXT.match(value[start + len(_MARK) : -2].decode("ascii"))
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    number = int(found[2], 16)
    try:
        signature = base64.b64decode(found[3] + "==", altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    if number > 2**53 - 1 or base64.urlsafe_b64encode(signature).decode() != found[3] + "==":
        return None
    return _Signed(found[1], number, signature, value[:start] + b"}")


def _fits(pattern: str, name: str) -> bool:
    parts = pattern.split("*")
    if len(parts) == 1:
        return pattern == name
    return re.fullmatch(f"{re.escape(parts[0])}.*{re.escape(parts[1])}", name) is not None


def _is_weak(public: bytes) -> bool:
    """Whether a public key is not written in its one form, or is a point of small order."""
    prime = 2**255 - 19
    y = int.from_bytes(public, "little") % 2**255
    if y >= prime or y in (0, 1, prime - 1):
        return True
    # The four points of order 8: y^2 solves d y^4 + 2 y^2 - 1 = 0 on the curve -x^2 + y^2 = 1 + d x^2 y^2 where x^2 = -y^2.
    d = -121665 * pow(121666, -1, prime) % prime
    square = y * y % prime
    return (d * square * square + 2 * square - 1) % prime == 0
