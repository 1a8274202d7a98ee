"""Why a destination did not take a result."""

from __future__ import annotations

from spinezoo_contract.errors import SpineZooError


class NotTakenError(SpineZooError):
    """The destination does not take this kind of object."""


class RefusedError(SpineZooError):
    """The destination refused an object; the message holds its status."""
