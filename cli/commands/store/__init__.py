"""Commands about the store of a host: it is folded, checked, rebuilt and kept."""
