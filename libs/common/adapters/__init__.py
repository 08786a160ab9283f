"""Adapters: the only home of client libraries (kafka, sql, nvml, clock), each behind a port."""
