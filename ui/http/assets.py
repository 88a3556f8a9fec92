"""The scripts, styles and pictures of the package, in memory: nothing comes from another host."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final, NamedTuple

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOLDERS: Final = ("", "heatmap/")


class Asset(NamedTuple):
    """A file. `tag` is another one when its bytes are others."""

    data: bytes
    content_type: str
    tag: str


def load_assets() -> dict[str, Asset]:
    """All files below `static`, by their paths."""
    found = {}
    for folder in _FOLDERS:
        place = files("vacancy.ui").joinpath("static", folder) if folder else files("vacancy.ui") / "static"
        for one in place.iterdir():
            content_type = _TYPES.get(one.name.rpartition(".")[2])
            if content_type is not None and one.is_file():
                data = one.read_bytes()
                tag = hashlib.blake2b(data, digest_size=12).hexdigest()
                found[f"{folder}{one.name}"] = Asset(data, content_type, tag)
    return found
