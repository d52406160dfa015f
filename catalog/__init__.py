"""What the photos are: sources, ingest, the photo store, splits, lists and refinement."""
