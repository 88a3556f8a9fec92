"""Examples of each command, shown at the end of its help. The tests run them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Examples = tuple[tuple[str, str], ...]
"""What it does, and the command line without `vacancy`."""

EXAMPLES: Final[Mapping[str, Examples]] = {
    "demo": (
        ("The whole loop with 300 synthetic nodes, in a new log", "demo"),
        ("Four schedulers that race for 1,000 nodes", "demo --nodes 1000 --schedulers 4 --requests 2000"),
    ),
    "worker": (
        ("The default log on this host", "worker"),
        (
            "A log on Kafka, with a snapshot every hour",
            "worker --log kafka://k1:9092,k2:9092/vacancy --snapshots s3://bucket/vacancy --snapshot-every 1h",
        ),
        ("A new host that starts with the newest snapshot", "worker --from-snapshot s3://bucket/vacancy"),
    ),
    "publish": (
        ("Show what this host would report, and send nothing", "publish --dry-run"),
        ("Publish this host until Ctrl-C", "publish --interval 10 --cell auto"),
        ("A node that is described in a file, once", "publish --once --file node-1.json"),
        (
            "With metrics for node_exporter",
            "publish --metrics-file /var/lib/node_exporter/textfile/vacancy.prom",
        ),
        ("This node is gone for good", "publish --retire"),
    ),
    "candidates": (
        ("Ten nodes with 4 CPUs and 8 GiB", "candidates --resources VCPU:4,MEMORY_MB:8192 --limit 10"),
        (
            "With AVX2, in an aggregate, the fullest first",
            "candidates --resources VCPU:4 --required HW_CPU_X86_AVX2 --member-of rack-7 --order pack",
        ),
        ("A GPU with enough memory", "candidates --resources 'PCI_DEVICE:1[vendor=10de,memory_mb>=40000]'"),
        ("What could have served it two hours ago", "candidates --resources VCPU:8 --as-of -2h"),
    ),
    "why-not": (
        ("What node-1 lacks for a request, and who took it", "why-not node-1 --resources VCPU:8"),
        ("The same at an earlier time", "why-not node-1 --resources VCPU:8 --as-of -2h"),
    ),
    "place": (
        ("Find a node and claim it", "place --resources VCPU:2,MEMORY_MB:1024 --consumer web-1"),
        (
            "On another node than the other members of the server group",
            "place --resources VCPU:2 --consumer web-2 --group-anti-affinity hall-1/web",
        ),
        (
            "For five minutes, until `vacancy confirm web-3`",
            "place --resources VCPU:2 --consumer web-3 --hold 300",
        ),
        ("In place of what it holds", "place --resources VCPU:4 --consumer web-1 --replace"),
    ),
    "move": (
        ("To any other node of its cell", "move web-1"),
        ("To this node; both are held until the next line", "move web-1 --to node-2 --keep"),
        ("The guest runs on the new node: release the old one", "move web-1 --to node-2"),
        ("To another cell", "move web-1 --to-cell hall-2"),
    ),
    "resize": (
        ("Eight CPUs on its node", "resize web-1 --resources VCPU:8"),
        ("On another node, if its own is full", "resize web-1 --resources VCPU:8 --elsewhere"),
    ),
    "evacuate": (
        ("Where each consumer would go", "evacuate node-1 --dry-run"),
        ("Move them all", "evacuate node-1"),
    ),
    "update": (("Another project owns it now", "update web-1 --project research --user ana"),),
    "settle": (
        ("Is it placed, and may it be placed again?", "settle web-1"),
        ("Go on with all moves between cells that are open", "settle"),
    ),
    "confirm": (("Keep what was claimed with --hold", "confirm web-3"),),
    "typical": (("For `--order least_fragmentation --typical typical.json`", "typical CUSTOM_GPU_MILLI"),),
    "release": (
        ("Give back all that they hold", "release web-1 web-2"),
        ("Only what is held in this cell", "release web-1 --cell hall-1"),
    ),
    "show nodes": (("All nodes, and whether they take claims", "show nodes"),),
    "show provider": (
        ("What it has, what is used, who holds it", "show provider node-1"),
        ("The same as of a time", "show provider node-1 --as-of 2026-11-28T13:14:33Z"),
    ),
    "show consumer": (("What it holds, since when, by which claim", "show consumer web-1"),),
    "show request": (("A request and its outcome", "show request 4f1c"),),
    "show claim": (("The verdict on a claim", "show claim f8f103cc713d4db4-2"),),
    "show group": (("The members of a server group, and their nodes", "show group hall-1/web"),),
    "usage": (
        ("What is held of each class", "usage"),
        ("By project, a day ago", "usage --by project --as-of -1d"),
        ("A project beside its limits", "usage --project vision --against-quota"),
    ),
    "doctor": (
        ("Check this host and its log", "doctor"),
        ("For a program", "doctor --json"),
        ("With other settings than those in force", "doctor --config /etc/vacancy.toml --timeout 3"),
    ),
    "metrics": (
        ("What Prometheus would read, once", "metrics"),
        ("Serve it for Prometheus until Ctrl-C", "metrics --port 6067"),
        (
            "For node_exporter, from a timer",
            "metrics --file /var/lib/node_exporter/textfile/vacancy.prom",
        ),
    ),
    "status": (
        ("How far the store is, what needs attention", "status"),
        ("For a program", "status --json"),
    ),
    "ui": (
        ("Pages for this host's store, at http://127.0.0.1:6080", "ui"),
        ("For tenants: amounts, and no names", "ui --redacted --port 6081"),
    ),
    "provider disable": (("No new claims", 'provider disable node-1 --reason "not yet burnt in"'),),
    "provider drain": (
        ("No new claims, and consumers are to leave", 'provider drain node-1 --reason "new fans"'),
    ),
    "provider enable": (("It takes claims again", "provider enable node-1"),),
    "provider retire": (("A node that is gone", "provider retire node-1"),),
    "provider adopt": (("This name is that of another machine now", "provider adopt node-1 --machine m-9"),),
    "provider rename": (("What is held follows the new name", "provider rename node-1 node-10"),),
    "provider device": (
        ("Nobody gets this device", 'provider device node-1 81:00.0 --disable --reason "ECC errors"'),
        ("It is offered again", "provider device node-1 81:00.0 --enable"),
    ),
    "provider taint": (
        ("Only for requests with --tolerate dedicated=gpu", "provider taint node-1 dedicated=gpu"),
        ("For all again", "provider taint node-1 dedicated --remove"),
    ),
    "provider aggregate": (
        ("Into one aggregate, out of another", "provider aggregate node-1 --add rack-7 --remove rack-6"),
    ),
    "provider trait": (
        ("A trait that its host does not report", "provider trait node-1 --add CUSTOM_QUIET"),
    ),
    "provider set": (("An attribute, for --where", "provider set node-1 --attribute generation=7"),),
    "provider override": (
        ("Twice as many CPUs as there are", "provider override node-1 VCPU --ratio 2.0"),
        ("What the host reports counts again", "provider override node-1 VCPU --clear"),
    ),
    "replay": (
        ("Fold what is new, then end", "replay"),
        ("Another store, as of two hours ago", "replay --into then --until -2h"),
        ("A new store in the place of this one, beside the workers", "replay --swap"),
        ("Compare with the next build, record by record", "replay --against /opt/vacancy-next"),
    ),
    "verify": (
        ("Fold the whole log again, compare, audit each claim", "verify"),
        ("Another store", "verify --store then"),
    ),
    "audit": (
        ("What is held, and what nodes say that they run", "audit"),
        ("What would be released", "audit --heal --dry-run"),
    ),
    "digest": (("One hash of the store's content", "digest"),),
    "bisect": (
        (
            "When did these candidates go?",
            "bisect 'candidates --resources VCPU:8 --required CUSTOM_X' --from -1d",
        ),
        (
            "When was this node full?",
            "bisect 'candidates --qualities-only --in-tree node-1 --where \"VCPU.free >= 4\"' --from -2h --to -1h",
        ),
        ("When did this consumer change?", "bisect 'show consumer web-1' --from 0:7,1:1"),
    ),
    "snapshot create": (("Beside the worker", "snapshot create --snapshots s3://bucket/vacancy"),),
    "snapshot list": (("The newest last", "snapshot list"),),
    "snapshot verify": (("Is it whole?", "snapshot verify 20261128T185324503Z-605d26f2"),),
    "snapshot restore": (("Start this host's store with the newest", "snapshot restore"),),
    "snapshot prune": (("Keep the newest 24", "snapshot prune --keep 24"),),
    "dead-letters": (("The newest ten of each partition", "dead-letters --limit 10"),),
    "log show": (
        ("One record, and what the fold made of it", "log show 2:4"),
        ("Six records as JSON, one a line", "log show 2:4-9 --json"),
    ),
    "log tail": (
        ("The newest 50", "log tail --count 50"),
        ("What names a consumer, as it comes", "log tail --consumer vm-1 --follow"),
    ),
    "log export": (
        ("Add what is new to an archive", "log export --to s3://bucket/vacancy"),
        ("Up to an hour ago", "log export --to report --until -1h"),
    ),
    "log import": (
        ("A new log of an archive", "log import --from s3://bucket/vacancy --log kafka://k1:9092/restored"),
    ),
    "diff": (
        ("What changed in two hours", "diff -2h"),
        ("Between two points in time", "diff 0:7,1:1 2026-11-28T13:14:33Z"),
    ),
    "history": (
        ("All that happened to a consumer or a node", "history web-1"),
        ("A node's last day", "history node-1 --from -1d"),
    ),
    "topics create": (
        (
            "On Kafka; the number of partitions stays",
            "topics create --log kafka://k1:9092/vacancy --partitions 32",
        ),
        ("A file on this host", "topics create --log sqlite:///var/lib/vacancy/log.db"),
    ),
    "topics check": (("Its settings and replicas", "topics check --log kafka://k1:9092/vacancy"),),
    "topics trim": (
        ("First: marks at which it can be cut", "topics trim --prepare"),
        (
            "Then: what would be deleted",
            "topics trim --before 20261128T185324503Z-605d26f2 --archive s3://bucket/vacancy --dry-run",
        ),
    ),
    "signing make-key": (("A key for this node", "signing make-key node.key"),),
    "signing public-key": (("The public part, to register it", "signing public-key node.key"),),
    "signing show": (("Who must sign, and who does", "signing show"),),
    "signing pin": (("Pin the first operator's key", "signing pin --operator-key operator.key"),),
    "signing unpin": (
        (
            "Take a key away from an operator",
            "signing unpin 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
    ),
    "signing require": (
        ("All nodes must sign", "signing require --all"),
        ("Those of a rack", "signing require '*:rack7-*'"),
        ("Turn it off", "signing require --none"),
    ),
    "signing register": (
        (
            "A key of node-1",
            "signing register node-1 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        ),
    ),
    "signing rotate": (
        (
            "Only this key from now on",
            "signing rotate node-1 fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ),
    ),
    "signing revoke": (("A node was stolen", "signing revoke node-1"),),
    "rules show": (("The version in force, and open proposals", "rules show"),),
    "rules activate": (
        ("Ask all workers first", "rules activate 5 --propose-only"),
        ("Raise it", "rules activate 5"),
    ),
    "rules withdraw": (("Give up all open proposals", "rules withdraw"),),
    "quota set": (
        ("A project's limits", "quota set research VCPU:100 PGPU:2"),
        ("A part of another project's", "quota set vision VCPU:80 --parent research"),
        ("All projects without one", "quota set --default VCPU:50"),
    ),
    "quota show": (("A project's limits, and what is used", "quota show research"),),
    "quota list": (("All limits", "quota list"),),
    "placement serve": (
        ("OpenStack Placement's API on the loopback address", "placement serve"),
        (
            "With Keystone, as placement.conf says, on all addresses",
            "placement serve --host 0.0.0.0 --processes 4 --placement-config /etc/placement",
        ),
    ),
    "placement import": (
        (
            "What would be copied, and what the source has that is inconsistent",
            "placement import --from /etc/placement/placement.conf --dry-run",
        ),
        ("Copy a database", "placement import --from mysql+pymysql://placement@db.example/placement"),
        (
            "Copy through the API of a Placement that runs",
            "placement import --from http://placement.example:8778",
        ),
        ("Go on after an interruption", "placement import --from /etc/placement/placement.conf --continue"),
    ),
    "placement export": (
        (
            "Into an empty database, after `placement-manage db sync`",
            "placement export --to /etc/placement/placement.conf",
        ),
        ("Through the API of a Placement that runs", "placement export --to http://placement.example:8778"),
    ),
    "placement compare": (
        (
            "Each provider, inventory, usage and allocation",
            "placement compare --with http://placement.example:8778",
        ),
    ),
    "classes": (("The classes of this build and its plugins", "classes"),),
    "classes activate": (("Allow the plugins that are installed here", "classes activate"),),
    "completion": (
        ("In this bash", "completion bash"),
        ("For fish; write it to ~/.config/fish/completions/vacancy.fish", "completion fish"),
    ),
}


def help_text(path: str) -> str:
    """The examples of a command as the end of its help; "" if it has none."""
    found = EXAMPLES.get(path)
    if not found:
        return ""
    lines = [line for what, example in found for line in (f"  # {what}", f"  vacancy {example}")]
    return "\b\nExamples:\n" + "\n".join(lines)
