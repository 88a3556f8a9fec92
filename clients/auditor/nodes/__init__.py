"""The auditor's own rules for nodes."""
