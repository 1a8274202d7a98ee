"""Films for this room's tests."""

from spinezoo_testing.film_folder import film_folder

__all__ = ["film_folder"]
