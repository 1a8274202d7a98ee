"""A network without any framework: the example that services/README.md speaks of."""
