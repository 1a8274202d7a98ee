"""Why a film or a result was not taken."""

from __future__ import annotations

from spinezoo_contract.errors import SpineZooError


class NotTakenError(SpineZooError):
    """The destination does not take this kind of object."""


class RefusedError(SpineZooError):
    """The destination refused an object; the message holds its status."""


class OtherStudyError(SpineZooError):
    """A film came under a UID that a film of another study has already."""
