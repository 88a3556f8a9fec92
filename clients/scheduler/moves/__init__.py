"""Moves of consumers, within a cell and between cells."""
