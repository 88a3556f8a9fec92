"""The past of a log: points in time, and the tables as they were at one of them."""
