"""The page: `vacancy ui`, an HTTP server that shows a store. It is a reader like any other, and writes nothing."""
