"""The HTTP server of the page: addresses, templates, files, and what is sent to browsers as it happens."""
