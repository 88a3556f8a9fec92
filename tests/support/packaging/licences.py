"""Checks the licences of what users install: the package's dependencies, and those of its extras. `make check`.

It reads what is installed here and asks nobody, so it needs no network. Known vulnerabilities are another command's work
(`make audit`): that needs a service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS: Final = ("", "archive", "otel", "placement")
"""What an installation for use may have. The other extras are for measuring, testing and documents."""
ALLOWED: Final = (
    *(
        "Apache",
        "MIT",
        "BSD",
        "ISC",
        "PSF",
        "Python Software Foundation",
        "Zlib",
        "0BSD",
        "CC0",
        "Unlicense",
        "Public Domain",
    ),
    *("Mozilla Public License", "MPL-2.0"),  # of single files: no condition on this package
    *("LGPL", "Lesser General Public License"),  # imported, never copied into this package
)
"""Words of licences that an Apache-2.0 package may depend on."""
KNOWN: Final = {
    "cel-python": "Apache-2.0",  # the file LICENSE in its wheel
    "venusian": "BSD-derived",  # the Repoze Public License: BSD with a clause on names
}
"""Package -> its licence, where its metadata names none or an unusual one."""


def dependencies(names: Iterable[str] = EXTRAS) -> set[str]:
    """The names of all distributions that these extras of the package install ("": without any), on this platform."""
    found: set[str] = set()
    waiting = [("vacancy", extra) for extra in names]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for requirement in _required(name, extra):
            needed = canonicalize_name(requirement.name)
            found.add(needed)
            more = {(needed, ""), *((needed, one) for one in requirement.extras)} - seen
            seen |= more
            waiting.extend(more)
    return found - {"vacancy"}


def _required(name: str, extra: str) -> Iterator[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:  # of another platform, or optional
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def licences(names: Iterable[str]) -> dict[str, str]:
    """Package -> the licence that its metadata names."""
    command = [str(Path(sys.executable).with_name("pip-licenses")), "--format=json", "--with-system"]
    done = subprocess.run(
        [*command, "--packages", *sorted(names)], capture_output=True, text=True, check=True
    )
    return {canonicalize_name(one["Name"]): one["License"] for one in json.loads(done.stdout)}


def refused(found: dict[str, str]) -> dict[str, str]:
    """Packages whose licence is not in the list. Of licences to choose from ("A OR B", "A; B") one must be."""
    return {
        name: licence
        for name, licence in found.items()
        if not any(word.lower() in KNOWN.get(name, licence).lower() for word in ALLOWED)
    }


def main() -> int:
    """The command: lists the licences, and ends with 1 if one is not allowed."""
    found = licences(dependencies())
    wrong = refused(found)
    for name, licence in sorted(wrong.items()):
        say = (
            f"{name}: licence {licence!r}: see whether Apache-2.0 may depend on it, then add it to {__file__}"
        )
        print(say)  # noqa: T201
    if "--list" in sys.argv:
        print("\n".join(f"{name}: {licence}" for name, licence in sorted(found.items())))  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
