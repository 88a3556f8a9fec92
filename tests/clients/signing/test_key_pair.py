"""Files of private keys: who may read them, what is in them, and that nothing of them is ever shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.support.logs.signing import key_of
from vacancy.clients.signing.key_pair import KeyPair, key_file_error, read_key
from vacancy.resources.model.errors import UsageError


def test_a_key_is_written_and_read(tmp_path: Path) -> None:
    file, key = tmp_path / "node.key", KeyPair.generate()
    before = os.umask(0)
    try:
        key.write(file)
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    assert key_file_error(file) == ""
    assert read_key(file).public == key.public
    assert KeyPair.generate().public != key.public


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "node.key"
    file.write_text("precious")
    with pytest.raises(UsageError, match="no key is overwritten"):
        key_of("alice").write(file)
    assert file.read_text() == "precious"
    with pytest.raises(UsageError, match="cannot be written"):
        key_of("alice").write(tmp_path / "missing" / "node.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "node.key"
    key_of("alice").write(file)
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"its mode is {mode:04o}"):
        read_key(file)


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "node.key"
    key_of("alice").write(file)
    good = file.read_text()
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = key_of("alice")._private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
    )
    for text in ("", "secret words", good[:-60], good.replace("M", "?", 1), other.decode(), locked.decode()):
        file.write_text(text)
        with pytest.raises(UsageError) as raised:
            read_key(file)
        assert "is not a private Ed25519 key" in str(raised.value)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(tmp_path / "missing")
    with pytest.raises(UsageError, match="is not a file"):
        read_key(tmp_path)


def test_a_key_shows_its_public_part_only(tmp_path: Path) -> None:
    file = tmp_path / "node.key"
    key_of("alice").write(file)
    assert repr(key_of("alice")) == f"<key {key_of('alice').id}>"


def test_openssl_reads_and_writes_such_keys(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.key", tmp_path / "theirs.key"
    key_of("alice").write(ours)
    openssl = ["openssl", "pkey", "-in", str(ours), "-pubout", "-outform", "DER"]
    try:
        public = subprocess.run(openssl, capture_output=True, check=True).stdout
    except FileNotFoundError:
        return  # the format is checked above; this host has no openssl
    assert public[-32:] == key_of("alice").public
    made = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(theirs)]
    subprocess.run(made, capture_output=True, check=True)
    theirs.chmod(0o600)
    assert len(read_key(theirs).public) == 32
