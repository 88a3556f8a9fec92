"""The design that Ed Leafe criticised as a candidate: each scheduler has its own copy of the nodes' state."""
