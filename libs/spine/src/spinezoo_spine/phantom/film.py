"""One film from one seed, by whichever generator the settings name."""

from __future__ import annotations

from spinezoo_spine.phantom.records import PhantomFilm
from spinezoo_spine.phantom.settings import DEFAULT_SETTINGS, PhantomSettings
from spinezoo_spine.phantom.version2 import make as version2
from spinezoo_spine.phantom.version3 import make as version3


def make_film(seed: int, settings: PhantomSettings = DEFAULT_SETTINGS) -> PhantomFilm:
    """Makes one film.

    The same seed and settings give the same bytes on the same machine and library versions. Each
    part of the film has its own random stream, so the patient does not change when, for example,
    the noise does.

    Args:
        seed: Non-negative integer.
        settings: Knobs; `settings.generator` says which generator draws.

    Returns:
        The film with its truth.
    """
    maker = version2 if settings.generator == 2 else version3
    return maker.make_film(seed, settings)
