"""The data types of the rules: names, events, requests, log records, errors. The rules themselves are in `fold`."""
