"""Keeps the memory of one film for the next; see :mod:`spinezoo_contract.memory`."""

from spinezoo_contract.memory import keep_film_memory

__all__ = ["keep_film_memory"]
