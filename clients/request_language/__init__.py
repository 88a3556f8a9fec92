"""The languages of requests: Placement syntax, device and NUMA asks, expressions. They compile to a RequestSpec."""
