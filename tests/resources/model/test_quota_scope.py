"""What a limit is for: its id is that of one limit."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vacancy.resources.fold.claims.quota_ledgers import quota_limit_id
from vacancy.resources.model.events import QuotaScope


def test_a_consumer_type_has_no_nul() -> None:
    """With one, this scope had the id of another limit: that of user p in project VCPU, for the unit B."""
    other = QuotaScope(project="VCPU", user="p", consumer_type="A", unit="B")
    forged = QuotaScope.model_construct(project="p", user=None, consumer_type="A\0B", unit="VCPU")
    assert quota_limit_id(forged) == quota_limit_id(other)
    with pytest.raises(ValidationError, match="consumer_type"):
        QuotaScope(project="p", consumer_type="A\0B", unit="VCPU")
    assert QuotaScope(project="p", consumer_type="any\ntype " * 6, unit="VCPU").consumer_type
