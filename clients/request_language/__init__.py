"""The languages of requests: placement syntax, devices, NUMA, expressions; compiled to a RequestSpec."""
