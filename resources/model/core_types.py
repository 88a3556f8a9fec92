"""Types of cores: the names by which publishers report them and requests ask for them.

No rule of the fold reads them: they are traits and an attribute of the providers that have the cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

CoreType = Literal["performance", "efficiency"]

CORE_TYPE_TRAITS: Final[Mapping[CoreType, str]] = {
    "performance": "CUSTOM_CORES_PERFORMANCE",
    "efficiency": "CUSTOM_CORES_EFFICIENCY",
}
"""The traits of a provider whose CPUs are of one type, on a host that has both."""

CORE_TYPE: Final = "core_type"
"""The name of the attribute with the type."""
