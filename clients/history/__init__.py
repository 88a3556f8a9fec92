"""What happened in a log: its records for people, the history of one thing, differences, and the record that changed an answer."""
