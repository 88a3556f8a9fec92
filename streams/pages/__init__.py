"""The HTTP pages of a worker: `/ready`, `/status` and `/metrics`."""
