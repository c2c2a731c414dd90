"""keystep.export: the only writer of bundles."""
