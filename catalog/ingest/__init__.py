"""Ingest: from a source to the photo store. Spawned workers import this package, so it names nothing."""
