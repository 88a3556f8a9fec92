"""Where GPUs place their MIG instances: the tables of NVIDIA's models.

A GPU that is split by MIG has slots of memory, 4 or 8. An instance of a profile takes `size` slots in a row, from one of the
profile's `starts`. Instances may have any profiles as long as no slot is taken twice. Source: NVIDIA Multi-Instance GPU
User Guide, "Supported Profiles", and `nvidia-smi mig -lgipp`, which prints the placements of a GPU.

A table is a rule of the log: it never changes. A GPU with another one reports its profiles itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

MEDIA: Final = "+me"
"""The end of the names of profiles with the media extensions, of which a GPU has one set."""


class Profile(NamedTuple):
    """How many slots an instance takes, and where it may start."""

    size: int
    starts: tuple[int, ...]


def _of_eight(one: str, one_wide: str, two: str, three: str, four: str, seven: str) -> Mapping[str, Profile]:
    """The table of a GPU with 7 slices of compute and 8 slots of memory."""
    each = Profile(1, (0, 1, 2, 3, 4, 5, 6))
    return {
        f"1g.{one}gb": each,
        f"1g.{one}gb{MEDIA}": each,
        f"1g.{one_wide}gb": Profile(2, (0, 2, 4, 6)),
        f"2g.{two}gb": Profile(2, (0, 2, 4)),
        f"3g.{three}gb": Profile(4, (0, 4)),
        f"4g.{four}gb": Profile(4, (0,)),
        f"7g.{seven}gb": Profile(8, (0,)),
    }


TABLES: Final[Mapping[str, Mapping[str, Profile]]] = {
    "A30-24GB": {
        "1g.6gb": Profile(1, (0, 1, 2, 3)),
        f"1g.6gb{MEDIA}": Profile(1, (0, 1, 2, 3)),
        "2g.12gb": Profile(2, (0, 2)),
        f"2g.12gb{MEDIA}": Profile(2, (0, 2)),
        "4g.24gb": Profile(4, (0,)),
    },
    "A100-40GB": _of_eight("5", "10", "10", "20", "20", "40"),
    "A100-80GB": _of_eight("10", "20", "20", "40", "40", "80"),
    "H100-80GB": _of_eight("10", "20", "20", "40", "40", "80"),
    "H100-94GB": _of_eight("12", "24", "24", "47", "47", "94"),
    "H100-96GB": _of_eight("12", "24", "24", "48", "48", "96"),
    "H200-141GB": _of_eight("18", "35", "35", "71", "71", "141"),
}
"""Model -> profile -> its placements."""


def placements(table: Mapping[str, Profile]) -> Iterator[tuple[str, int]]:
    """(`PROFILE@START`, size) of all placements of a table."""
    for name, profile in table.items():
        for start in profile.starts:
            yield f"{name}@{start}", profile.size
