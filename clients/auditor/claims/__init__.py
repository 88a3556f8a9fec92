"""The auditor's own rules for claims and moves."""
