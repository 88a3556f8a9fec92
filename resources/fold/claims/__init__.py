"""What claims and moves do: verdicts, allocations, server groups, quotas."""
