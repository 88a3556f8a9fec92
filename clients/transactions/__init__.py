"""Transactions for programs: `TransactionClient` submits them and waits for their verdicts, `CellState` reads what they make, and
`ConsumerIndex` finds consumers by provider and by project."""

from vacancy.clients.transactions.cell_state import (
    CellState,
    ConsumerState,
    CustomName,
    InventoryState,
    ProviderState,
)
from vacancy.clients.transactions.client import TransactionClient, TransactionOutcome
from vacancy.clients.transactions.consumer_index import ConsumerIndex
from vacancy.resources.model.transactions import ConsumerChange, NameChange, ProviderChange

__all__ = [
    "CellState",
    "ConsumerChange",
    "ConsumerIndex",
    "ConsumerState",
    "CustomName",
    "InventoryState",
    "NameChange",
    "ProviderChange",
    "ProviderState",
    "TransactionClient",
    "TransactionOutcome",
]
