"""Where GPUs place their MIG instances: the tables of NVIDIA's models.

A GPU that is split by MIG has slots of memory, 4 or 8. An instance of a profile takes `size` slots in a row, from one of the
profile's `starts`. Instances may have any profiles as long as no slot is taken twice.

Sources: NVIDIA Multi-Instance GPU User Guide (docs.nvidia.com/datacenter/tesla/mig-user-guide), "Supported MIG Profiles",
which has the names and how many instances of each profile there are, and the placements that `nvidia-smi mig -lgipp` prints
("Getting Started with MIG"): {0,1,2,3,4,5,6}:1 for 1g and 1g+me, {0,2,4,6}:2 for the wide 1g, {0,2,4}:2, {0,4}:4, {0}:4 and
{0}:8 on GPUs with 7 slices; {0,1,2,3}:1, {0,2}:2 and {0}:4 on an A30. GB200 and the GH200 with 144 GB have the names that
NVIDIA's GPU Operator configures (its `mig-parted` configuration).

A table is a rule of the log: it never changes. A GPU with another one reports its profiles itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

MEDIA: Final = "+me"
"""In the names of profiles with the media extensions, of which a GPU has one set."""

ALL_MEDIA: Final = "+me.all"
"""In the names of profiles with all media engines. Beside them only profiles without media engines run (`WITHOUT_MEDIA`)."""

WITHOUT_MEDIA: Final = "-me"
"""The end of the names of profiles without media engines, on GPUs that have profiles with all of them."""


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
    "GH200-144GB": _of_eight("18", "36", "36", "72", "72", "144"),
    "B200-180GB": _of_eight("23", "45", "45", "90", "90", "180"),
    "GB200-186GB": _of_eight("23", "47", "47", "93", "93", "186"),
}
"""Model -> profile -> its placements."""


def placements(table: Mapping[str, Profile]) -> Iterator[tuple[str, int]]:
    """(`PROFILE@START`, size) of all placements of a table."""
    for name, profile in table.items():
        for start in profile.starts:
            yield f"{name}@{start}", profile.size
