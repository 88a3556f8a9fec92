"""What operators do: settings of providers, activation of resource classes."""
