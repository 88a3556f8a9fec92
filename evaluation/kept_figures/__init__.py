"""Figures that vacancy must keep: how they are measured, the file that has them, and what counts as a change."""
