"""How each example of the command line's help is run: the groups of commands that share a host, and what shows that each worked.

The runs of a command are in the order of its examples in `cli/examples.py`. Patterns that begin with `^` are of a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.support.documentation.example_site import Group, Run, Stays

_CHANGED = r"^node-1 in cell hall-1, revision \d+: "
_ID = r"\d{8}T\d{9}Z-[0-9a-f]{8}"
_HASH = r"^[0-9a-f]{32}$"
_RACED = r"^allocated twice +0\n^wrong rejections +0\n^rebuilt from the log +the same$"
_KEY = r"^[0-9a-f]{64}$"
_SET = r"^set in partitions 0, 1, 2$"
_WEB_1_ON_NODE_1 = ("release web-1", "place --resources VCPU:2 --consumer web-1 --in-tree node-1")
_WEB_1_ON_NODE_3 = ("release web-1", "place --resources VCPU:2 --consumer web-1 --in-tree node-3")
_WEB_1_ON_NODE_4 = (
    "release web-1",
    "place --resources VCPU:2 --consumer web-1 --in-tree node-4 --tolerate small=yes",
)
_MOVES_TO_ANOTHER_CELL = (
    "place --resources VCPU:2 --consumer web-5 --in-tree node-3",
    "move web-5 --to-cell hall-2 --hold 600",
)
_PROMETHEUS = "var/lib/node_exporter/textfile/vacancy.prom"

_QUESTIONS: Final[Mapping[str, tuple[Run, ...]]] = {
    "show nodes": (Run(r"^node-1 +hall-1 +open "),),
    "show provider": (Run(r"^batch-1 +node-1 +VCPU +12$"), Run(r"^batch-1 +node-1 +VCPU +12$")),
    "candidates": (
        Run(r"(?:^hall-[12] +node-\d+ .*VCPU:4 MEMORY_MB:8192\n){10}"),
        Run(r"^hall-1 +node-2 .*VCPU:4$"),
        Run(r"^hall-1 +node-2 .*PCI_DEVICE"),
        Run(r"^hall-[12] +node-\d+ .*VCPU:8$"),
    ),
    "why-not": (
        Run(r"node-1 +VCPU: free >= 8 +8 +2 +last taken by batch-1 at 0:\d+"),
        Run(r"^it is a candidate$"),
    ),
    "status": (Run(r"^nodes: \d+ open$"), Run(r'"node_states": ')),
    "dead-letters": (Run(r"^ +0 +\d+ .*Invalid JSON"),),
    "digest": (Run(_HASH),),
    "doctor": (Run(r"^no errors, "), Run(r'"errors": 0'), Run(r"^no errors, ")),
    "metrics": (
        Run(r'^vacancy_\w+\{.*cell="hall-1"'),
        Run(r"metrics of the fleet at http://\S+", stays=Stays({"/metrics": 200})),
        Run("", file=_PROMETHEUS),
    ),
    "ui": (
        Run(
            r"the fleet is at http://\S+",
            more="--port 0",
            stays=Stays({"/fleet": 200, "/dead-letters": 200}),
        ),
        Run(r"the fleet is at http://\S+", stays=Stays({"/fleet": 200, "/dead-letters": 403})),
    ),
    "log show": (Run(r"^record 2:4: node\.reported\.v1$"), Run(r'(?:^\{.*"offset": [4-9], .*\n){6}')),
    "log tail": (
        Run(r"\b0:\d+\b.*batch-1"),
        Run(
            "vm-1",
            before=("place --resources VCPU:1 --consumer vm-1",),
            stays=Stays(meanwhile=("release vm-1",), then=r"consumers\.released"),
        ),
    ),
    "diff": (
        Run(r"^batch-1 +hall-1 +research +took +node-1: VCPU 12$"),
        Run(r"^batch-0 +hall-1 +research +took +node-1: VCPU 2$"),
    ),
    "history": (
        Run("placed on ", before=("place --resources VCPU:2 --consumer web-1 --in-tree node-3",)),
        Run(r"batch-1 placed on node-1: VCPU 12"),
    ),
    "bisect": (
        Run(r"^record 0:\d+: node\.reported\.v1$", notes=r"asked at \d+ positions; .*"),
        Run(r"^  claim claim-batch-1 of batch-1: accepted$", notes=r"asked at \d+ positions; .*"),
        Run(r"^  claim \S+ of web-1: accepted$", notes=r"asked at \d+ positions; .*"),
    ),
    "typical": (
        Run(
            '"CUSTOM_GPU_MILLI": 700',
            before=("place --resources VCPU:1 --group gpu=CUSTOM_GPU_MILLI:700 --consumer train-1",),
        ),
    ),
    "usage": (
        Run(r"VCPU +\d+$"),
        Run(r"^research +2 +VCPU +4$"),
        Run(r"^project vision +VCPU +0 +80$", before=("quota set vision VCPU:80",)),
    ),
    "audit": (
        Run(
            r"^nodes that say what they run: 1$",
            before=(
                "publish --once --cell hall-1 --file node-1.json --running running-1",
                "(the store has caught up)",
            ),
            notes=r"\d+ nodes never said what they run",
        ),
        Run(
            r"^would release batch-2 \(claim claim-batch-2\) in cell hall-1: node-2 does not run it$",
            before=(
                "publish --once --cell hall-1 --file node-2.json --running running-2",
                "(the store has caught up)",
            ),
            notes=r"\d+ nodes never said what they run|what is held and what runs differ .*",
            code=9,
        ),
    ),
    "classes": (Run(r"^PCI_DEVICE +standard "),),
    "classes activate": (Run(r"^the log allows every class that is installed here$"),),  # no plugin is
    "completion": (Run(r"^complete .*vacancy$"), Run(r"^complete .*vacancy ")),
}
"""Of a fleet with a history of forty hours."""

_CONSUMERS: Final[Mapping[str, tuple[Run, ...]]] = {
    "place": (
        Run(r"^placed web-1 on node-\d+ in cell ", before=("release batch-1",)),
        Run(
            r"^placed web-2 on node-\d+ in cell hall-1 ",
            before=("place --resources VCPU:2 --consumer web-4 --group-anti-affinity hall-1/web",),
        ),
        Run(r"^placed web-3 on node-\d+ in cell "),
        Run(r"^placed web-1 on node-\d+ in cell "),
    ),
    "show group": (Run(r"^web-[24] +(node-\d+) +\d+\nweb-[24] +(?!\1\b)node-"),),
    "show consumer": (Run(r"^web-1 +node-\d+ +VCPU +4$"),),
    "show request": (Run(r"^\w+ +\S+Z +placed "),),
    "show claim": (Run(r"^accepted$"),),
    "confirm": (Run(r"^confirmed web-3$"),),
    "update": (Run(r"^updated web-1 in cell hall-[12]$"),),
    "settle": (
        Run(r"^placed web-1 in cell hall-[12] by claim "),
        Run(
            r"^moved web-5 from cell hall-1 to cell hall-2$",
            before=(*_MOVES_TO_ANOTHER_CELL, "confirm web-5"),
        ),
    ),
    "move": (
        Run(r"^moved web-1 to node-[23] in cell hall-1 ", before=_WEB_1_ON_NODE_1),
        Run(r"^added a place for web-1 on node-2 in cell hall-1 ", before=_WEB_1_ON_NODE_3),
        Run(r"^moved web-1 to node-2 in cell hall-1 "),
        Run(r"^moved web-1 from cell hall-1 to cell hall-2$"),
    ),
    "resize": (
        Run(r"^resized web-1 on node-3 in cell hall-1 ", before=_WEB_1_ON_NODE_3),
        Run(r"^resized web-1 on node-[123] in cell hall-1 ", before=_WEB_1_ON_NODE_4),
    ),
    "evacuate": (
        Run(
            r"^web-1 +hall-1 +node-[23]$",
            before=("release batch-0", *_WEB_1_ON_NODE_1, "provider disable node-1"),
        ),
        Run(r"^web-1 +hall-1 +node-[23]$"),
    ),
    "release": (
        Run(r"^released web-1, web-2$"),
        Run(
            r"^released web-1 in cell hall-1$",
            before=(
                "place --resources VCPU:2 --consumer web-1 --in-tree node-3",
                "move web-1 --to-cell hall-2 --hold 600",
            ),
        ),
    ),
    "quota set": (
        Run(r"^project research: VCPU 100, used \d+$"),
        Run(r"^vision counts for research$"),
        Run(r"^each project: VCPU 50, "),
    ),
    "quota show": (Run(r"^project research +VCPU +2 +\d+ +\d+$"),),
    "quota list": (Run(r"^each project +VCPU +- +50$"),),
}

_OPERATORS: Final[Mapping[str, tuple[Run, ...]]] = {
    "provider device": (
        Run(r"^PGPU 81:00\.0 of node-1 in cell hall-1 is disabled \(ECC errors\)$"),
        Run(r"^PGPU 81:00\.0 of node-1 in cell hall-1 is enabled$"),
    ),
    "provider taint": (Run(_CHANGED + ".*taints dedicated=gpu"), Run(_CHANGED + "(?!.*taints)")),
    "provider aggregate": (Run(_CHANGED + ".*aggregates rack-7$"),),
    "provider trait": (Run(_CHANGED + ".*traits CUSTOM_QUIET$"),),
    "provider set": (Run(_CHANGED + ".*attributes generation=7$"),),
    "provider override": (
        Run(_CHANGED + ".*VCPU with allocation_ratio_milli=2000$"),
        Run(_CHANGED + "(?!.*VCPU)"),
    ),
    "provider disable": (Run(_CHANGED + r"disabled \(not yet burnt in\)"),),
    "provider drain": (Run(_CHANGED + r"draining \(new fans\)"),),
    "provider enable": (Run(_CHANGED + "enabled"),),
    "provider retire": (Run(r"^retired node-1 in cell hall-1$", before=("release batch-0 batch-1",)),),
    "provider adopt": (
        Run(
            r"^node node-1 in cell hall-1 is machine m-9$",
            before=("publish --once --cell hall-1 --file node-1.json --machine m-1",),
            notes="it takes claims with this machine's next full report: .*",
        ),
    ),
    "provider rename": (
        Run(
            r"^node node-1 in cell hall-1 is now node-10, with what 1 consumers hold of it$",
            before=(
                "publish --once --cell hall-1 --file node-1.json --machine m-9",
                "place --resources VCPU:2 --consumer web-1 --in-tree node-1",
            ),
            notes="it takes claims with the next full report of node-10",
        ),
    ),
}

_STORES: Final[Mapping[str, tuple[Run, ...]]] = {
    "snapshot create": (Run(rf"^made snapshot {_ID} of log .* in file://\S+/bucket/vacancy$"),),
    "snapshot list": (Run(rf"^{_ID} .*\n{_ID} .*$", before=("snapshot create", "snapshot create")),),
    "snapshot verify": (Run(rf"^snapshot {_ID} is whole$"),),
    "snapshot prune": (Run(r"\A\Z"),),  # there are two
    "topics trim": (
        Run(r"^appended marks at 0:\d+ 1:\d+ 2:\d+$"),
        Run(
            r"^would delete [1-9]\d* records that file://\S+/bucket/vacancy has$",
            before=(
                "(the store has caught up)",
                "snapshot create",
                "log export --to s3://bucket/vacancy",
            ),
        ),
    ),
    "log export": (
        Run(r"^exported \d+ records of log \w+ to file://\S+/bucket/vacancy: "),
        Run(r"^exported \d+ records of log \w+ to file://\S+/report: 3 new segments$"),
    ),
    "log import": (Run(r"^made sqlite:///\S+/restored of file://\S+/bucket/vacancy: log \w+, \d+ records$"),),
    "replay": (
        Run(_HASH, before=("(stop the worker)",)),
        Run(_HASH),
        Run(_HASH, before=("(start the worker)",), notes="the old store is now .*"),
        Run(r"^both builds fold the same from \d+ records, up to 0:\d+ "),
    ),
    "verify": (
        Run(r"^overcommitted +0$", notes="cannot be verified: .*"),
        Run(r"^overcommitted +0$", notes="cannot be verified: .*"),
    ),
    "snapshot restore": (Run(rf"^restored snapshot {_ID} to ", before=("(stop the worker)", "(no store)")),),
    "worker": (
        Run(
            r"status at http://\S+",
            before=("(a host without anything)",),
            stays=Stays({"/ready": 200}),
        ),
        Run(
            r"status at http://\S+",
            before=(
                "(a host without anything)",
                "topics create --log kafka://k1:9092/vacancy",
            ),
            file="bucket/vacancy/*/manifest.json",
            stays=Stays(),
        ),
        Run(
            r"the store starts with snapshot [\s\S]*caught up with [\s\S]*status at http://\S+",
            before=(
                "(the fleet, without a worker)",
                "snapshot create --snapshots s3://bucket/vacancy",
                "(no store)",
            ),
            stays=Stays({"/ready": 200}),
        ),
    ),
}

_HOSTS: Final[Mapping[str, tuple[Run, ...]]] = {
    "publish": (
        Run(r" VCPU +\{.*\"total\":"),
        Run(r"publishing \S+ in cell auto-\d+, ", stays=Stays()),
        Run(r"^published node-1 in cell auto-\d+: 1 providers$"),
        Run(r"publishing \S+ in cell auto-\d+, ", file=_PROMETHEUS, stays=Stays()),
        Run(r"^retired \S+$", before=("publish --once",)),
    ),
    "topics create": (
        Run(r"^made sqlite:///\S+/on-kafka/vacancy with 32 partitions: "),
        Run(r"^made sqlite:///\S+/var/lib/vacancy/log\.db with 4 partitions: "),
    ),
    "topics check": (Run(r"^no problems found in sqlite:///\S+/on-kafka/vacancy: "),),
    "demo": (
        Run(_RACED, more="--nodes 20 --schedulers 1"),
        Run(_RACED),
    ),
}

_RULES: Final[Mapping[str, tuple[Run, ...]]] = {
    "rules show": (Run(r"^ +2 +\d+ +4\b"),),
    "rules activate": (
        Run(r"^ +0 +[0-9a-f]{32} +5 "),
        Run(r"^partitions 0, 1, 2 follow rules version 5 now$"),
    ),
    "rules withdraw": (
        Run(
            r"^withdrawn in partition 0: proposal [0-9a-f]{32} of rules version 6$",
            before=("rules activate 6 --propose-only",),
        ),
    ),
}

_SIGNING: Final[Mapping[str, tuple[Run, ...]]] = {
    "signing make-key": (Run(_KEY, before=("signing make-key operator.key",)),),
    "signing public-key": (Run(_KEY),),
    "signing pin": (Run(_SET),),
    "signing show": (Run(r"^ +2 +1 +[0-9a-f]{16} +none$"),),
    "signing register": (
        Run(
            r"^node-1 in cell auto-\d+ signs with key [0-9a-f]{16}$",
            before=("publish --once --file node-1.json",),
        ),
    ),
    "signing require": (
        Run(
            _SET,
            before=(
                "signing register node-1 {node_key}",
                "publish --once --file node-1.json --node-key node.key",
            ),
        ),
        Run(_SET),
        Run(_SET),
    ),
    "signing rotate": (Run(r"^node-1 in cell auto-\d+ signs with key [0-9a-f]{16}$"),),
    "signing revoke": (Run(r"^node-1 in cell auto-\d+ signs with no key$"),),
    "signing unpin": (
        Run(
            _SET,
            before=("signing pin 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",),
        ),
    ),
}

_PLACEMENT: Final[Mapping[str, tuple[Run, ...]]] = {
    "placement import": (
        Run(r"^to write: \d+ names, 8 providers, 8 consumers$", before=("(a Placement with a fleet)",)),
        Run(r"^equal$"),
        Run(r"^equal$", before=("(a new log)", "(a Placement with a fleet)")),
        Run(r"^equal$"),
    ),
    "placement compare": (Run(r"^equal$"),),
    "placement export": (
        Run(r"^equal$", before=("(an empty database of Placement)",)),
        Run(r"^equal$", before=("(an empty Placement)",)),
    ),
    "placement serve": (
        Run(r"serving cell default at http://\S+;", more="--port {port}", stays=Stays({"/": 200})),
        Run(
            r"serving cell default at http://\S+;",
            before=("(a Keystone)",),
            more="--port {port}",
            stays=Stays({"/": 200, "/resource_providers": 401}),
        ),
    ),
}

GROUPS: Final[Mapping[str, Group]] = {
    "questions": Group("fleet", _QUESTIONS),
    "consumers": Group("fleet", _CONSUMERS),
    "operators": Group("fleet", _OPERATORS),
    "stores": Group("fleet", _STORES),
    "hosts": Group("new", _HOSTS),
    "rules": Group("older", _RULES),
    "signing": Group("new", _SIGNING, 'operator_key = "operator.key"\n'),
    "placement": Group("new", _PLACEMENT),
}
"""Each command is in one of them, with all its examples. In "stores" the lines of `worker` are last: they need hosts of their own."""
