"""What happened and what is approved: runs, lineage, registry, gates, audit."""
