"""The query engine: a request and a view in, candidates out. It writes nothing."""
