"""vacancy on Kafka does what every candidate must do. Its three brokers are started by the comparison itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from tests.evaluation.candidates.contract import check_contract

pytestmark = pytest.mark.kafka


def test_contract(tmp_path: Path) -> None:
    check_contract("vacancy-kafka-1", tmp_path)
