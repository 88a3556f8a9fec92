"""vacancy.testing: a conformance suite for authors of resource classes. Needs the extra `vacancy[testing]`.

    class TestFpgaRegion(ResourceClassConformance):
        subject = ClassUnderTest(FpgaRegion(), inventories=..., asks=...)

See docs/adding-a-resource-class.md.
"""

from vacancy.testing.conformance import ResourceClassConformance, check
from vacancy.testing.properties import PROPERTIES
from vacancy.testing.subject import ClassUnderTest

__all__ = ["PROPERTIES", "ClassUnderTest", "ResourceClassConformance", "check"]
