"""Errors that only the commands raise."""

from __future__ import annotations

from vacancy.resources.model.errors import VacancyError


class AuditFound(VacancyError):
    """`vacancy audit` found that what is held and what runs differ, or that something is held that cannot be."""

    exit_code = 9


class DifferenceFound(VacancyError):
    """A verification found a difference between a store and the log, or something wrong with a topic or with this host."""

    exit_code = 5
