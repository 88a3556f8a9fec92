"""The identity of a machine, which stays the same under another host name and differs between two machines of one name.

The id of /etc/machine-id is confidential (see machine-id(5)): an application shows a hash of it under its own id. The hash
is that of systemd's `sd_id128_get_machine_app_specific`, so that `systemd-id128 machine-id --app-specific=ID` prints the
same. A machine without the file is identified by the UUID that its firmware has (DMI), hashed in the same way; only root
can read that.
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Final

from vacancy.clients.publisher.host.files import read_text

APPLICATION_ID: Final = "f8ad39e23d7b492aa1917782da8cfc88"
"""The application id of vacancy, drawn at random once. Another id would give every machine another identity."""

_HEX: Final = re.compile(r"[0-9a-f]{32}")
_PLACEHOLDERS: Final = frozenset(
    {
        # Values of firmware that has no UUID. The last two are shared by many boards.
        "0" * 32,
        "f" * 32,
        "03000200040005000006000700080009",
        "12345678123456781234567812345678",
    }
)


def machine_identity(etc: Path = Path("/etc"), sys: Path = Path("/sys")) -> str | None:
    """The identity of this machine, 32 hexadecimal digits; None if it has neither a machine id nor a readable UUID.

    Two machines have the same identity if one is a copy of the other's disk and its machine id was not reset.
    """
    for text in (read_text(etc / "machine-id"), read_text(sys / "class/dmi/id/product_uuid")):
        digits = (text or "").lower().replace("-", "")
        # systemd writes "uninitialized" before the first boot.
        if _HEX.fullmatch(digits) and digits not in _PLACEHOLDERS:
            return _application_specific(digits)
    return None


def _application_specific(machine: str) -> str:
    """HMAC-SHA256 with the machine's id as the key: its first 16 bytes, with the version and variant of a random UUID."""
    hashed = bytearray(hmac.digest(bytes.fromhex(machine), bytes.fromhex(APPLICATION_ID), "sha256")[:16])
    hashed[6] = hashed[6] & 0x0F | 0x40
    hashed[8] = hashed[8] & 0x3F | 0x80
    return hashed.hex()
