"""Runs the properties on a class: as a pytest class to derive from, or one by one."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vacancy.testing.properties import PROPERTIES
from vacancy.testing.subject import ClassUnderTest, Draw


def check(subject: ClassUnderTest, name: str, using: settings | None = None) -> None:
    """Run one property (a key of `PROPERTIES`) on a class, with as many examples as the settings of Hypothesis ask for.
    Raises what the property raises for the smallest example that it found."""
    holds = PROPERTIES[name]

    def run(data: st.DataObject) -> None:
        holds(Draw(subject, data))

    # Hypothesis keeps failing examples by the name of the function.
    run.__name__ = run.__qualname__ = f"{subject.resource_class.name}_{name}"
    using = using or settings()
    # How long an example takes says nothing about the class: no deadline.
    slow = settings(
        using, deadline=None, suppress_health_check=[*using.suppress_health_check, HealthCheck.too_slow]
    )
    slow(given(st.data())(run))()


class ResourceClassConformance:
    """Derive a pytest class from it, named `Test…`, and set `subject`: each property is a test."""

    subject: ClassVar[ClassUnderTest]

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_conforms(self, name: str) -> None:
        """The class has the property of that name."""
        check(self.subject, name)
