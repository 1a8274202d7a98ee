"""Faults made in a running composition, and the table of what they cost: ``make faults``."""
