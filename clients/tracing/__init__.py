"""OpenTelemetry spans from a request to its claim and its verdict, across processes (extra `otel`; ADR 60).

No module here imports OpenTelemetry before tracing is on: `switch` decides that, the other modules need the extra.
"""
