"""The auditor's own rules for resource classes that are not counted."""
