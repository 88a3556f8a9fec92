"""One module for each family of resource classes that the auditor judges."""
