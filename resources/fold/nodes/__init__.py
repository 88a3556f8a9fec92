"""What the events of nodes do: reports, changes, machines, withdrawals."""
