"""Phantom films: lateral lumbar radiographs with exact truth.

`make_film(seed, settings)` makes one film in memory, `write_film_set` a folder of films with their
truth, `spinezoo_training.phantom_films` films at a network's size, on the spot (`docs/phantom.md`).

The modules follow the light: `anatomy` builds the skeleton as posed solids in millimetres
(`vertebra`, `sacrum`), `implants` puts hardware into it, `solids` turns solids into path lengths
along the rays of a point source (`projection`), `bones`, `pelvis` (with `painter`), `implants` and
`trunk` (`frontal` for the view from the front) use it to draw their parts, `detector` makes grey
levels of the sum, `make` keeps the order, `truth` and `records` hold what is true, `write` makes
files of it.
"""

from spinezoo_phantom.make import make_film
from spinezoo_phantom.records import PhantomFilm, PhantomRegion
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_phantom.write import write_dicom, write_film_set, write_png

__all__ = [
    "PhantomFilm",
    "PhantomRegion",
    "PhantomSettings",
    "make_film",
    "write_dicom",
    "write_film_set",
    "write_png",
]
