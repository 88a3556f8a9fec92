"""The views, one module for each. Each is a function of the site and of what was asked: its address has all of its state."""
