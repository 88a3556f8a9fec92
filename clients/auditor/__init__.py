"""An independent audit of what was handed out: from the log and a store's verdicts, and with no code of the fold."""

from vacancy.clients.auditor.auditor import CANCELLED_OFFSET, AuditReport, audit

__all__ = ["CANCELLED_OFFSET", "AuditReport", "audit"]
