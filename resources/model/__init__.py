"""What the rules talk about: names, events, requests, log records, errors. No rule is here."""
