"""The state that the fold works on: its tables, their rows, and one transaction over them."""
