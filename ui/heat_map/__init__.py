"""The heat map: the fleet of one class, groups of nodes, and the bytes that the browser gets of them."""
