"""Records a log with a store that a build folded from it: `python -m tests.upgrades.record rules_6` (this build), or with
`rules_4` for the released one. Never record one again once a release has its rules: later builds must read what was written.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.upgrades.builds import HERE, WAIT_S, Build, released_build

NODES = 6


def write(build: Build, home: Path) -> dict[str, object]:
    """Make `log.db` and `store` in `home`. Returns the position and the digest."""
    log = ("--log", f"sqlite://{home}/log.db")
    site = (*log, "--store", str(home / "store"))
    done = build.run("topics", "create", *log, "--partitions", "2")
    assert done.code == 0, done.err
    build.json("replay", *log, "--into", str(home / "store"))
    with build.worker(*site):
        for number in range(NODES):
            file = home / "node.json"
            inventories = {
                "VCPU": {"total": 8},
                "MEMORY_MB": {"total": 4096},
                "PGPU": {"devices": {"a": {}, "b": {}}},
            }
            traits = ["HW_CPU_X86_AVX2"] if number % 2 else []
            file.write_text(
                json.dumps([{"id": f"node-{number}", "inventories": inventories, "traits": traits}])
            )
            outbox = str(home / f"{number}.outbox")
            publish = ("publish", "--once", "--file", str(file), "--outbox", outbox, "--timeout", str(WAIT_S))
            build.json(*publish, *site)
        build.json("provider", "aggregate", "node-1", "--add", "rack-1", *site)
        for number in range(NODES):
            resources = "VCPU:2,PGPU:1" if number % 2 else "VCPU:2,MEMORY_MB:512"
            place = ("place", "--consumer", f"c{number}", "--resources", resources, "--timeout", str(WAIT_S))
            build.json(*place, *site)
        released = build.run("release", "c0", *site)
        assert released.code == 0, released.err
        refused = build.run("place", "--consumer", "large", "--resources", "VCPU:99", *site)
        assert refused.code == 3, refused
    build.json("replay", *log, "--into", str(home / "store"))
    found: dict[str, object] = build.json("digest", "--store", str(home / "store"))
    return found


def main() -> None:
    """Record one."""
    (name,) = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="vacancy-record-") as directory:
        home = Path(directory)
        build = (
            released_build(name, home)
            if (HERE / f"released/{name}.tar.xz").exists()
            else Build(Path(sys.executable), home)
        )
        with build:
            digest = write(build, home)
        (home / "digest.json").write_text(json.dumps(digest, indent=1) + "\n")
        with tarfile.open(HERE / f"stores/{name}.tar.xz", "w:xz", preset=9) as file:
            for part in ("log.db", "store", "digest.json"):
                file.add(home / part, part, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """A file as it is kept: without its owner. RocksDB's own log names paths of the machine, and is not needed."""
    if Path(member.name).name.startswith("LOG"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
