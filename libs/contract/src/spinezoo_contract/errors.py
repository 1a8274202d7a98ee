"""The errors of SpineZoo, and the gRPC status each one becomes.

::

    SpineZooError
     +-- BadInputError              the caller sent something wrong           INVALID_ARGUMENT
     |    +-- FilmError             the film cannot be read
     |    +-- AnnotationError       an outline or a truth file is wrong
     |    +-- OptionError           a setting is out of its range
     |    +-- MaskError             a mask breaks the contract
     +-- TooLargeError              over a size limit                         RESOURCE_EXHAUSTED
     +-- QueueFullError             no place in the queue                     RESOURCE_EXHAUSTED
     +-- DeadlineError              no time left                              DEADLINE_EXCEEDED
     +-- NotServingError            loading, draining or not reachable        UNAVAILABLE
     |    +-- QuorumError           fewer members answered than needed
     +-- AccessError                who calls is not known                    UNAUTHENTICATED
     |    +-- ClosedFaceError       this way in is closed, another is open    PERMISSION_DENIED
     +-- InvalidOutputError         a network answered nonsense               INTERNAL
     +-- ConfigurationError         a setting or file of ours is wrong        FAILED_PRECONDITION
          +-- CardError             a model card is wrong
          +-- WeightsError          weights are missing, changed or foreign

Every message says what is wrong and what to do next. None holds pixels or patient fields.
"""

from __future__ import annotations


class SpineZooError(Exception):
    """Any error that SpineZoo raises on purpose.

    Attributes:
        trailing_metadata: Pairs of key and value that a server sends along with the status.
    """

    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()


class BadInputError(SpineZooError):
    """The caller sent something wrong."""


class FilmError(BadInputError):
    """The film cannot be read or is not of the kind that is taken."""


class AnnotationError(BadInputError):
    """An outline or a truth file is wrong."""


class OptionError(BadInputError):
    """A setting of a request is out of its range."""


class MaskError(BadInputError):
    """A mask breaks the contract: size, run-lengths, encoding."""


class TooLargeError(SpineZooError):
    """Over a size limit."""


class QueueFullError(SpineZooError):
    """No place in the queue; try again later."""


class DeadlineError(SpineZooError):
    """No time left to answer."""


class NotServingError(SpineZooError):
    """Loading, draining, or not reachable."""


class QuorumError(NotServingError):
    """Fewer members answered than the quorum needs."""


class AccessError(SpineZooError):
    """Who calls is not known: no token, or one that does not count.

    Attributes:
        caller: Name of the caller, where the token is known but has expired.
    """

    caller: str = ""


class ClosedFaceError(AccessError):
    """This way in is closed because it would go round the access rules; another is open."""


class InvalidOutputError(SpineZooError):
    """A network answered something that breaks the contract."""


class ConfigurationError(SpineZooError):
    """A setting or a file of the installation is wrong."""


class CardError(ConfigurationError):
    """A model card is wrong."""


class WeightsError(ConfigurationError):
    """Weights are missing, changed, or of another network."""
