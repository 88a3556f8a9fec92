"""The demonstration and its race: a synthetic fleet, several schedulers, and the proof."""
