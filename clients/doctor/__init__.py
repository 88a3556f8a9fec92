"""Checks everything that a host of a log needs: `vacancy doctor`."""
