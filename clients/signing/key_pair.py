"""Private Ed25519 keys and their files: PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes them.

A file has mode 0600: one that others can read is refused. No key is ever printed or logged; errors name the file only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.signatures import key_id

KEY_MODE: Final = 0o600
_OTHERS: Final = 0o077
_FILE_BYTES_MAX: Final = 16_384


class KeyPair:
    """A private key with its public one. Its representation shows the public key only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.sign = private.sign
        """Signs a message: 64 bytes."""
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """32 bytes."""
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        return f"<key {self.id}>"

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key with these 32 bytes of RFC 8032 as its secret: for tests."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def write(self, path: Path) -> None:
        """Write the private key to a new file that only its owner can read. Raises `UsageError` where there is a file already, or
        none can be made."""
        data = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, KEY_MODE)
            with os.fdopen(file, "wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
        except FileExistsError:
            raise UsageError(
                "the file exists, and no key is overwritten", where=str(path), do="name another file"
            ) from None
        except OSError as error:
            raise UsageError(
                f"the key cannot be written: {error.strerror}",
                where=str(path),
                do="name a file in a directory",
            ) from None


def read_key(path: Path) -> KeyPair:
    """The private key in a file. Raises `UsageError` where it cannot be read, is no Ed25519 key, or where others may read it."""
    if problem := key_file_error(path):
        raise UsageError(problem, where=str(path), do="see docs/signing.md")
    try:
        data = path.read_bytes()[:_FILE_BYTES_MAX]
        private = load_pem_private_key(data, None)
    except OSError as error:
        raise UsageError(
            f"the key cannot be read: {error.strerror}", where=str(path), do="check the file and its owner"
        ) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: an error of the parser might repeat some of the file.
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(
            "the file is not a private Ed25519 key in PEM without a password",
            where=str(path),
            do="make one with `vacancy signing make-key FILE`",
        ) from None
    return KeyPair(private)


def key_file_error(path: Path) -> str:
    """The error of the file of a private key, as far as the file system shows it, or an empty text."""
    try:
        found = path.stat()
    except OSError as error:
        return f"the key cannot be read: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return "the key is not a file"
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        return f"other users can read the key: its mode is {stat.S_IMODE(found.st_mode):04o}, make it 0600"
    return ""
