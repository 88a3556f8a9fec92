"""Why the auditor does not judge an outcome: all reasons. docs/operating.md lists them, and a test compares the two.

A name in braces stands for a class, a provider, a partition, an offset or a number.
"""

from __future__ import annotations

from typing import Final

NO_CLASS_AUDITOR: Final = "{name} has no class auditor"
NOT_ALL_KNOWN: Final = "not all {name} that are held of {provider} are known by name and reported"
SEVERAL_ASKS: Final = "{count} asks to {name} of {provider}"
CHANGED_BY_NAME: Final = (
    "what changed asks by name keep of a closed provider, or several of one provider, is not judged"
)
GANG_OF_NAMED: Final = "what members of a rejected gang would have been granted by name is not known"
TRANSACTION_BY_NAME: Final = (
    "what a transaction gives back or grants by name, or of server groups, is not judged"
)
READS: Final = (
    "how much judging the claims of one record reads is not known for some of their classes or groups"
)
QUOTA_UNITS: Final = "how much some of its resources count against a quota is not judged"
QUOTA_ENTRIES: Final = "how many entries a row of quotas has is not counted"
EXPIRED: Final = "a verdict may be deleted after the deadline of its claim"
LEFT_OUT: Final = "a node that two cells reported, or a machine of two names, may have been left out"
SILENT: Final = "nodes that were silent for long were left out"
NO_SPEC: Final = "its spec is not in the log"
SHAPE: Final = "several copies, several providers together, or one subtree are not judged"
EXPRESSION: Final = "it asks with an expression"
LOG_ENDS: Final = "partition {partition} ends before {offset}"

REASONS: Final = (
    *(
        NO_CLASS_AUDITOR,
        NOT_ALL_KNOWN,
        SEVERAL_ASKS,
        CHANGED_BY_NAME,
        GANG_OF_NAMED,
        TRANSACTION_BY_NAME,
        READS,
        QUOTA_UNITS,
        QUOTA_ENTRIES,
    ),
    *(EXPIRED, LEFT_OUT, SILENT, NO_SPEC, SHAPE, EXPRESSION, LOG_ENDS),
)
