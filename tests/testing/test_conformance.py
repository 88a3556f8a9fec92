"""Every built-in resource class, and one as another package would add it, passes the conformance suite."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import settings

from tests.support.classes.class_strategies import STRATEGIES, subject
from vacancy.testing import PROPERTIES, check

EXAMPLES: Final = settings(max_examples=settings().max_examples // 2)
"""Fewer than elsewhere: the properties draw from the same strategies, and each class has all of them."""


@pytest.mark.parametrize("property_name", PROPERTIES)
@pytest.mark.parametrize("class_name", STRATEGIES)
def test_classes_conform(class_name: str, property_name: str) -> None:
    check(subject(class_name), property_name, EXAMPLES)
