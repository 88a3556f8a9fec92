"""The rules about PCI devices."""

from __future__ import annotations

import pytest

from vacancy.clients.publisher.host.devices.device_rules import parse_device_rule
from vacancy.resources.model.errors import UsageError

ADDRESS = "0000:3b:00.2"


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ("vendor=8086", True),
        ("vendor_id=8086,product_id=1889", True),
        ("vendor=0x8086, product=0x1889", True),
        ("vendor=8086,product=1592", False),
        ("vendor=*,product=1889", True),
        ("class=02", True),
        ("class=0200", True),
        ("class=020000", True),
        ("class=0b40", False),
        ("vendor=10de,class=02", False),
        ("address=0000:3b:00.2", True),
        ("address=0000:3B:00.2", True),
        ("address=0000:3b:00.1", False),
        ("address=*:3b:00.*", True),
        ("address=*:*:*.2", True),
        ("address=*:*:*.3", False),
        ("address=0000:3*:00.*", True),
        ("address=3b:00", True),
        ("address=3b:0.2", True),
        ("address=00.2", True),
        ("address=1:3b:00.2", False),
        ("address=*", True),
        # Its physical function.
        ("address=0000:3a:00.0", True),
    ],
)
def test_a_rule_matches_a_virtual_function(rule: str, matches: bool) -> None:
    found = parse_device_rule(rule, "here")
    assert found.matches((ADDRESS, "0000:3a:00.0"), 0x8086, 0x1889, 0x020000) is matches


@pytest.mark.parametrize(
    ("rule", "is_exact"),
    [
        ("vendor=8086", False),
        ("vendor=8086,product=1889", True),
        ("class=0c", True),
        ("address=0000:3b:00.2", True),
        ("address=3b:00.2", False),
        ("address=*:3b:00.*", False),
        ("vendor=*,product=*,class=*,address=*", False),
    ],
)
def test_a_rule_that_names_a_model_a_class_or_a_device_is_exact(rule: str, is_exact: bool) -> None:
    assert parse_device_rule(rule, "here").is_exact is is_exact


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "8086:1889",
        "device=1889",
        "vendor",
        "vendor=",
        "vendor=86",
        "vendor=808g",
        "vendor=8086,vendor=10de",
        "vendor=8086,vendor_id=8086",
        "class=0",
        "class=0200000",
        "address=",
        "address=:00.",
        "address=0000:3b:00.8",
        "address=0:0:0:0.0",
        "address=[0-9]*:00.0",
        "address=0000:3b:00.0;",
    ],
)
def test_an_invalid_rule_names_the_option(rule: str) -> None:
    with pytest.raises(UsageError, match="--allow-device"):
        parse_device_rule(rule, "--allow-device")
