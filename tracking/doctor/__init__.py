"""What is wrong with a project's store, registry and runs, and what of it can be mended without a person."""
