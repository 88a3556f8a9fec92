"""Which providers of one tree can serve all parts of a request together."""
