"""Phantom films: lateral lumbar radiographs with exact truth.

`make_film(seed)` makes one film in memory, `write_film_set` a folder of films with VIA outlines.
The modules follow the light: `anatomy` and `hardware` build the patient in millimetres,
`projection`, `skeleton` and `body` turn it into line integrals, `detector` into grey levels,
`truth` traces outlines, `write` stores them.
"""

from spinezoo_spine.phantom.film import PhantomFilm, PhantomRegion, make_film
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
