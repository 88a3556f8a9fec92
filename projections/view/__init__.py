"""The columnar view: what a scheduler selects on, as arrays in memory."""
