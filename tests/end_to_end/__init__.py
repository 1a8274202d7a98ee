"""Tests of the whole zoo: seven real processes, real films, real signals."""
