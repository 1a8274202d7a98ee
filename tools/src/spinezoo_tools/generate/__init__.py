"""Writes every file that lists the networks, from the folders of ``services/``: `make generate`."""
