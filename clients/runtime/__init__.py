"""How the packages are joined and run: bootstrap, worker processes, logging, memory."""
