"""The independent auditor: checks all verdicts of a store against the log, and shares no code with the fold."""

from vacancy.clients.auditor.auditor import CANCELLED_OFFSET, AuditReport, audit
from vacancy.clients.auditor.classes.built_in import ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import ClassAuditor

__all__ = ["CANCELLED_OFFSET", "AuditReport", "ClassAuditor", "ClassAuditors", "audit"]
