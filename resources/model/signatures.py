"""Signatures of events: Ed25519 (RFC 8032) over the exact bytes of a record's value, and over where it belongs.

A signature is the last member of the event's JSON object, the CloudEvents extension attribute `signature`. Its text has a fixed
length, so it is found at the end of the value without reading JSON, and what it signs is the value as it was before the
attribute was added (`sign_with`). No canonical form is needed: no byte of the event can change.

The text is `KEY.NUMBER.SIGNATURE`: the id of the key (`key_id`), a number that rises with each event that the key signs, and the 64
bytes of the signature in base64url. The signed message begins with the log's UUID, the cell, the key and the number. So an event
cannot be presented in another log or cell, and a recorded one cannot be presented again: the fold keeps the last number
(`fold.signatures`).

Rules before version 7, and builds that do not know signatures, ignore the attribute.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

from pydantic import Field, StringConstraints

from vacancy.resources.model.names import Id
from vacancy.resources.model.request import RequestModel

OPERATORS_MAX: Final = 8
NODE_KEYS_MAX: Final = 4
SCOPES_MAX: Final = 64
NUMBER_MAX: Final = 2**53 - 1

_PREFIX: Final = b',"signature":"'
_TAIL: Final = re.compile(rb',"signature":"([0-9a-f]{16})\.([01][0-9a-f]{13})\.([A-Za-z0-9_-]{85}[AQgw])"\}')
# The last character of 86 has two bits: with other characters, several texts would have the same bytes.
SIGNATURE_BYTES: Final = len(_PREFIX) + 16 + 1 + 14 + 1 + 86 + 2
"""The bytes of a signature at the end of a value, with the brace that ends the object."""

_P: Final = 2**255 - 19
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)
"""The y coordinates of the eight points of small order. With such a key, anybody can make a signature of any message."""

PublicKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A public Ed25519 key: 32 bytes in hexadecimal digits."""

ScopePattern = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._:/@+=~-]{0,200}\*?[A-Za-z0-9._:/@+=~-]{0,200}$")
]
"""A name, or one with a `*`, which stands for any characters."""


class SigningScope(RequestModel):
    """Nodes whose events must be signed: those with such names in cells with such names."""

    cell: ScopePattern = "*"
    node: ScopePattern = "*"


class SigningPolicyData(RequestModel):
    """Who signs in this partition, complete. `operators` are the public keys of operators. `required` says which nodes must sign
    their events; in the cells that it names, operators must sign theirs, too. `revision` is one more than the revision before (0 if
    there was none)."""

    revision: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    operators: Annotated[tuple[PublicKey, ...], Field(max_length=OPERATORS_MAX)] = ()
    required: Annotated[tuple[SigningScope, ...], Field(max_length=SCOPES_MAX)] = ()


class SigningKeysData(RequestModel):
    """The public keys with which the node `root` of the record's cell signs, complete: with none, it has no key. `revision` as in
    `SigningPolicyData`."""

    root: Id
    revision: Annotated[int, Field(ge=1, le=NUMBER_MAX)]
    keys: Annotated[tuple[PublicKey, ...], Field(max_length=NODE_KEYS_MAX)] = ()


class Signature(NamedTuple):
    """The signature of a value. `body` is the value without it."""

    key: str
    number: int
    raw: bytes
    body: bytes


def split_signature(value: bytes) -> Signature | None:
    """The signature at the end of a value, or None where there is none in this form."""
    if value[-SIGNATURE_BYTES : len(_PREFIX) - SIGNATURE_BYTES] != _PREFIX:
        return None
    found = _TAIL.fullmatch(value, len(value) - SIGNATURE_BYTES)
    if found is None:
        return None
    raw = urlsafe_b64decode(found[3] + b"==")
    return Signature(found[1].decode(), int(found[2], 16), raw, value[:-SIGNATURE_BYTES] + b"}")


def sign_with(
    sign: Callable[[bytes], bytes], public: bytes, value: bytes, *, log: str, cell: str, number: int
) -> bytes:
    """The value with a signature. `value` is a JSON object that does not end with white space, `sign` returns the 64 bytes of the
    signature of a message. Raises `ValueError` where the value is no such object."""
    if not (value.startswith(b"{") and value.endswith(b"}") and len(value) > 2):
        raise ValueError("only a JSON object with a member can be signed")
    key = key_id(public)
    text = urlsafe_b64encode(sign(signed_message(log, cell, key, number, value))).rstrip(b"=")
    return b'%s%s%s.%014x.%s"}' % (value[:-1], _PREFIX, key.encode(), number, text)


def signed_message(log: str, cell: str, key: str, number: int, body: bytes) -> bytes:
    """The bytes that are signed. None of the texts has a line break, so no two messages are the same."""
    return f"vacancy event signature 1\n{log}\n{cell}\n{key}\n{number}\n".encode() + body


def key_id(public: bytes) -> str:
    """The id of a public key: the first 8 bytes of its SHA-256, as 16 hexadecimal digits."""
    return sha256(public).hexdigest()[:16]


def key_error(public: bytes) -> str:
    """Why a public key may not be used, or an empty text. Such keys are not made by accident: libraries disagree on what they
    verify, or verify anything with them."""
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P:
        return "it is not in canonical form"
    return "its point has small order" if y in _SMALL_ORDER_Y else ""


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether it is the signature of the message by the key. It takes about 0.1 ms."""
    # Here, because loading it takes as long as 1,000 verifications, and most processes verify nothing.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
