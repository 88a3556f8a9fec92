"""The `vacancy` command: words in, words out. What it does is done by `vacancy.clients`."""
