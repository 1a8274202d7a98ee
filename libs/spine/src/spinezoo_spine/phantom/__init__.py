"""Phantom films: lateral lumbar radiographs with exact truth.

`make_film(seed, settings)` makes one film in memory, `write_film_set` a folder of films with their
truth, `training.training_films` films at a network's size, on the spot. `settings.generator` says
which generator draws: `version2` is frozen, `version3` is the newer one (`docs/phantom.md`). Both
share the camera (`projection`), the records, the tracing of outlines (`truth`) and the writing
(`write`).
"""

from spinezoo_spine.phantom.film import make_film
from spinezoo_spine.phantom.records import PhantomFilm, PhantomRegion
from spinezoo_spine.phantom.settings import PhantomSettings
from spinezoo_spine.phantom.write import write_dicom, write_film_set, write_png

__all__ = [
    "PhantomFilm",
    "PhantomRegion",
    "PhantomSettings",
    "make_film",
    "write_dicom",
    "write_film_set",
    "write_png",
]
