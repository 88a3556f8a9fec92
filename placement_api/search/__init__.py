"""The search for allocation candidates, on the view instead of SQL."""
