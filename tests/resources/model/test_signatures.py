"""The form of signatures, the test vectors of RFC 8032, and that nothing of what is signed can change."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.logs.events_json import event
from tests.support.logs.signing import key_of, signed
from vacancy.clients.signing.key_pair import KeyPair
from vacancy.resources.model.signatures import (
    SIGNATURE_BYTES,
    Signature,
    key_error,
    sign_with,
    signed_message,
    split_signature,
    verifies,
)

VALUE = event("node.heartbeat.v1", {"root": "n1", "incarnation": "0" * 16, "sequence": 7})
ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, 7.1: the secret key, the public key, the message, the signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(secret: str, public: str, message: str, signature: str) -> None:
    key = KeyPair.from_seed(bytes.fromhex(secret))
    assert key.public.hex() == public
    assert key_error(key.public) == ""
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verifies(key.public, bytes.fromhex(signature), bytes.fromhex(message))
    assert not verifies(key.public, bytes.fromhex(signature), bytes.fromhex(message) + b"x")


def test_there_is_one_signature_of_a_message_only() -> None:
    """Libraries that accept others would let two builds fold one log to different states."""
    key, message = key_of("alice"), b"message"
    made = key.sign(message)
    assert verifies(key.public, made, message)
    s = int.from_bytes(made[32:], "little")
    assert not verifies(key.public, made[:32] + (s + ORDER).to_bytes(32, "little"), message)
    assert not verifies(key.public, made[:31] + bytes((made[31] ^ 0x80,)) + made[32:], message)
    for length in (0, 32, 63, 65):
        assert not verifies(key.public, (made + made)[:length], message)
    assert not verifies(b"short", made, message)


@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        2**255 - 20,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    ],
)
@pytest.mark.parametrize("sign", [0, 2**255])
def test_a_key_of_small_order_cannot_be_used(y: int, sign: int) -> None:
    assert "small order" in key_error((y + sign).to_bytes(32, "little"))


def test_a_key_has_one_form() -> None:
    assert "canonical" in key_error((2**255 - 19).to_bytes(32, "little"))
    assert "canonical" in key_error(b"\xff" * 32)


def test_what_is_signed_is_the_value_before_and_where_it_belongs() -> None:
    value = signed(VALUE, "alice", 7, cell="b1")
    assert value.startswith(VALUE[:-1])
    assert len(value) == len(VALUE) - 1 + SIGNATURE_BYTES
    found = split_signature(value)
    assert found == Signature(key_of("alice").id, 7, found.raw if found else b"", VALUE)
    assert found is not None
    assert verifies(key_of("alice").public, found.raw, signed_message("the-log", "b1", found.key, 7, VALUE))


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'{"a":1} ', b"null"])
def test_only_an_object_can_be_signed(value: bytes) -> None:
    key = key_of("alice")
    with pytest.raises(ValueError, match="only a JSON object"):
        sign_with(key.sign, key.public, value, log="l", cell="c", number=1)


SIGNED = signed(VALUE, "alice", 2**40, cell="b1")


def _accepted(value: bytes, log: str = "the-log", cell: str = "b1") -> bool:
    found = split_signature(value)
    if found is None or found.key != key_of("alice").id:
        return False
    message = signed_message(log, cell, found.key, found.number, found.body)
    return verifies(key_of("alice").public, found.raw, message)


@given(at=st.integers(0, len(SIGNED) - 1), other=st.integers(1, 255))
@example(at=len(SIGNED) - 3, other=1)
def test_no_byte_can_change(at: int, other: int) -> None:
    assert _accepted(SIGNED)
    assert not _accepted(SIGNED[:at] + bytes((SIGNED[at] ^ other,)) + SIGNED[at + 1 :])


@given(at=st.integers(0, len(SIGNED)), cut=st.integers(0, 20), put=st.binary(max_size=20))
def test_no_bytes_can_be_added_or_cut(at: int, cut: int, put: bytes) -> None:
    value = SIGNED[:at] + put + SIGNED[at + cut :]
    assert _accepted(value) == (value == SIGNED)


@given(st.text(alphabet="abthe-log1", max_size=9), st.text(alphabet="b12", max_size=3))
def test_it_holds_in_one_place(log: str, cell: str) -> None:
    assert _accepted(SIGNED, log, cell) == ((log, cell) == ("the-log", "b1"))


@given(st.binary(max_size=300), st.booleans())
def test_splitting_never_fails(value: bytes, marked: bool) -> None:
    split_signature(value + (SIGNED[-SIGNATURE_BYTES:-50] + value[:48] + b'"}' if marked else b""))
