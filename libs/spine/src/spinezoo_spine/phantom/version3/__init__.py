"""Generator 3: solids in three dimensions, their line integrals, and the films made of them.

The modules follow the light: `anatomy` builds the skeleton as posed solids in millimetres,
`implants` puts hardware into it, `solids` turns solids into path lengths along the rays of a point
source, `bones`, `implants` and `trunk` use it to draw their parts, `detector` makes grey levels of
the sum, `make` keeps the order and writes down what is true.
"""
