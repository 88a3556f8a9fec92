"""What the `sh` blocks of the pages need to be run: the fleet that they speak of, what stands for what is not here, and what is run
before a line. `test_shell_blocks.py` runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

CELL: Final = "hall-1"

_DEVICES: Final[Mapping[str, Any]] = {
    "PCI_DEVICE": {"devices": {"0000:81:00.0": {"vendor": "10de", "product": "20b0", "memory_mb": 40960}}},
    "MIG": {
        "devices": {
            "GPU-0": {"table": "A100-40GB", "model": "A100"},
            "GPU-1": {"table": "A100-40GB", "model": "A100"},
        }
    },
    "PGPU": {"devices": {"0000:91:00.0": {}, "0000:92:00.0": {}}},
}


def _numa_cell(number: int) -> dict[str, Any]:
    """A NUMA cell with 8 cores of two threads, and a network card."""
    first = 16 * number
    cell = {
        "cell": number,
        "cores": [[cpu, cpu + 8] for cpu in range(first, first + 8)],
        "shared_cpus": [],
        "memory_mb": 65536,
        "hugepages": {"2048": 8192, "1048576": 8},
    }
    card = {f"0000:0{number + 1}:00.0": {"kind": "network", "vendor": "15b3"}}
    inventories = {"NUMA_CELL": cell, "PCI_DEVICE": {"devices": card}}
    return {"id": f"node-1:numa{number}", "parent": "node-1", "inventories": inventories}


def _host(name: str, vcpus: int, **more: Any) -> dict[str, Any]:
    amounts = {"VCPU": {"total": vcpus}, "MEMORY_MB": {"total": 1024 * vcpus * 4}, "DISK_GB": {"total": 500}}
    return {
        "id": name,
        "traits": ["HW_CPU_X86_AVX2"],
        "inventories": {**amounts, **more},
        "attributes": {"hypervisor_version": "8.2.10", "cpu_model": "Milan", "age": 3},
    }


NODES: Final[Mapping[str, list[dict[str, Any]]]] = {
    "node-1": [_host("node-1", 64), _numa_cell(0), _numa_cell(1)],
    "gpu-1": [
        _host("gpu-1", 64, **_DEVICES),
        *(
            {"id": f"gpu-1:{one}", "parent": "gpu-1", "inventories": {"CUSTOM_GPU_MILLI": {"total": 1000}}}
            for one in ("a", "b")
        ),
    ],
    "pool-1": [{"id": "pool-1", "inventories": {"DISK_GB": {"total": 100_000}}}],
    **{f"node-{n}": [_host(f"node-{n}", 16)] for n in range(2, 9)},
}

FLEET: Final = (
    "vacancy topics create",
    "vacancy worker",
    *(f"vacancy publish --once --cell {CELL} --file {name}.json" for name in NODES),
)
PLACED: Final = (
    "vacancy place --resources VCPU:2,MEMORY_MB:1024 --project vision --user ana --consumer web-1",
    "vacancy place --resources VCPU:1 --project vision --user ana --consumer vm-1",
    "vacancy place --resources VCPU:1 --group gpu=CUSTOM_GPU_MILLI:700 --consumer train-1",
    "vacancy release vm-1",
    "vacancy provider trait node-2 --add CUSTOM_X",
    "vacancy place --resources VCPU:61 --in-tree node-1 --consumer large-1",
)


def write_nodes(home: Path) -> None:
    """The files of the nodes."""
    for name, providers in NODES.items():
        (home / f"{name}.json").write_text(json.dumps(providers))


STOP: Final = "stop"
"""In `before`: end the servers, the fleet's worker too."""


@dataclass(frozen=True)
class ShellPage:
    """before: a line of the page -> lines that are run first. replace: text of a line -> what is run instead, `{…}` being values of this
    run. codes: a line -> its exit code, where that is not 0."""

    before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    replace: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)


_BUCKET: Final = {"s3://bucket/vacancy": "file://{home}/bucket"}
_EARLIER: Final = {
    " -2h": " {earlier}",
    " -1d": " {earlier}",
    " -1h": " {now}",
    "2026-11-28T13:14:33Z": "{now}",
}

PAGES: Final[Mapping[str, ShellPage]] = {
    "docs/audit.md": ShellPage(replace={"/run/vacancy": "{home}"}),
    "docs/devices.md": ShellPage(
        replace={"/run/": "{home}/"},
        before={
            "vacancy place --resources 'MIG:1[profile=3g.20gb]' --consumer train-1": (
                "vacancy release train-1",
            )
        },
    ),
    "docs/expressions.md": ShellPage(),
    "docs/history.md": ShellPage(
        replace={
            **_BUCKET,
            **_EARLIER,
            "/opt/vacancy-next": "{python}",
            "/var/lib/vacancy/store": "{home}/kept",
            "/home/ada": "{home}",
            "kafka://k1:9092/restored": "sqlite://{home}/restored.db",
            "2026-11-28T06:00Z": "{now}",
            "0:70412,1:69981": "{position}",
            "0:7,1:1": "{earlier_position}",
            "20261128T185324503Z-605d26f2": "{snapshot}",
            "2:4": "{record}",
        },
        before={
            "vacancy replay --into then --until -2h": (
                "vacancy snapshot create --snapshots file://{home}/bucket",
            ),
            "vacancy replay --into then --from-snapshot s3://bucket/vacancy --until 0:70412,1:69981": (
                "rm -r then",
            ),
            "vacancy replay --against /var/lib/vacancy/store --snapshots s3://bucket/vacancy": (
                "vacancy replay --into kept",
            ),
            "vacancy diff snapshot:20261128T185324503Z-605d26f2 /var/lib/vacancy/store": (
                "vacancy snapshot create",
            ),
        },
    ),
    "docs/numa.md": ShellPage(),
    "docs/page.md": ShellPage(replace={"vacancy ui": "vacancy ui --port 0"}),
    "docs/placement.md": ShellPage(
        replace={"/var/lib/vacancy": "{home}/other", "--processes 4": "--processes 2 --port {port}"},
        before={
            "vacancy topics create --log sqlite:///var/lib/vacancy/log.db --partitions 1": (
                "mkdir {home}/other",
            )
        },
    ),
    "docs/queries.md": ShellPage(
        before={
            "vacancy candidates --query 'resources=VCPU:4&resources1=CUSTOM_GPU_MILLI:700&required1=!CUSTOM_OLD&group_policy=isolate&limit=5'": (
                "vacancy release train-1",
            )
        }
    ),
    "docs/quotas.md": ShellPage(),
    "docs/relations.md": ShellPage(),
    "docs/signing.md": ShellPage(
        replace={"/etc/vacancy": "{home}", " KEY": ' "$(vacancy signing public-key node.key)"'},
        before={
            "vacancy signing require '*:rack7-*'": (
                f"vacancy publish --once --cell {CELL} --file node-1.json --node-key node.key",
            ),
            "vacancy signing require --all": tuple(
                f"vacancy provider retire {name} --force" for name in NODES if name != "node-1"
            ),
        },
    ),
    "docs/snapshots.md": ShellPage(
        replace=_BUCKET,
        before={
            "vacancy worker --snapshots s3://bucket/vacancy --snapshot-every 1h --snapshot-keep 24 --snapshot-max-age 7d": (
                "vacancy snapshot create --snapshots file://{home}/bucket",
            ),
            "vacancy worker --from-snapshot s3://bucket/vacancy": (STOP, "rm -r .local/state/vacancy/store"),
        },
    ),
    "docs/operating.md": ShellPage(
        replace={
            "kafka://k1:9092,k2:9092,k3:9092/vacancy": "kafka://{kafka}/{topic}",
            "f8f103cc713d4db4-2": "{claim}",
            "auto-5": CELL,
            "1795364735000": "{deadline_ms}",
            "~/.config/fish": "{home}",
        },
        before={
            "vacancy completion fish > ~/.config/fish/completions/vacancy.fish": ("mkdir {home}/completions",)
        },
        # One broker, and so one replica.
        codes={"vacancy topics check --log kafka://k1:9092,k2:9092,k3:9092/vacancy": 5},
    ),
    "README.md": ShellPage(
        replace={"kafka://127.0.0.1:9092/vacancy": "kafka://{kafka}/{topic}"},
    ),
}

ELSEWHERE: Final[Mapping[str, str]] = {
    "docs/evaluation.md": "the adapters of the candidates start the servers so: tests/evaluation/candidates",
    "docs/reference/commands.md": "the examples of the help: tests/cli",
    "docs/threat-model.md": "on a broker with these rules and certificates: tests/live/test_live_acls.py, test_live_secured.py",
    "CONTRIBUTING.md": "the development environment; continuous integration starts with it",
}
"""Pages whose blocks other tests run, or that need what no test has."""

NOT_RUN: Final[Mapping[str, str]] = {
    "make ": "it runs these tests",
    "python3 -m venv /opt/vacancy-next": "it installs a release; `make dist` installs this build in such an environment",
    "pip install 'vacancy[placement]'": "it installs a release",
    "kafka-configs.sh": "a program of Kafka's own distribution",
}
"""How lines begin that are not run, and why."""
