"""Commands that serve something over HTTP: pages, metrics, Placement's API."""
