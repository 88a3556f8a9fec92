"""The change feed: what each commit changed, for readers."""
