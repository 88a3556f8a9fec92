"""The resource classes: the contract, the standard ones, and the registry that knows them all."""
