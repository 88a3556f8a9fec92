"""Errors that only a command has."""

from __future__ import annotations

from vacancy.resources.model.errors import VacancyError


class DifferenceFound(VacancyError):
    """A verification found that two things differ which must not."""

    exit_code = 5
