"""Errors that only the commands raise."""

from __future__ import annotations

from vacancy.resources.model.errors import VacancyError


class DifferenceFound(VacancyError):
    """A verification found a difference: between a store and the log, or in the settings of a topic."""

    exit_code = 5
