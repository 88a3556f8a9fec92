"""Shared by the fault tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.faults.site_on_disk")
