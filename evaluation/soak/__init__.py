"""The soak test: processes that are killed at any moment, what they wrote down, and what is true afterwards."""
