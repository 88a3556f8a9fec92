"""The tables of the past: points in time, the positions that they stand for, and stores that are at them."""
