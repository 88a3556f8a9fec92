"""The stores that are compared, behind one interface: `candidate.py`. How to add one: docs/evaluation.md."""
