"""How events, requests and answers become bytes and JSON: the same bytes for the same content."""
