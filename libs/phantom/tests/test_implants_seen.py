"""What is said of implants, on phantom films whose truth is known: levels touched, rods redrawn."""

from __future__ import annotations

from functools import cache

import numpy as np
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import Film, Segment, SegmentKind, Structure
from spinezoo_phantom.make import make_film
from spinezoo_phantom.records import PhantomFilm
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.fusion.implants import fuse_implants, implants_of
from spinezoo_spine.fusion.rods import fuse_implants_on_film
from spinezoo_spine.fusion.touching import touched_levels
from spinezoo_spine.instances import unite
from spinezoo_spine.metrics.matching import match_objects

SEEDS = range(9300, 9310)
SETTINGS = PhantomSettings(implant_share=1.0, low_contrast_share=0.0)
BONES = {"lumbar_vertebra", "sacral_vertebra"}


@cache
def phantoms() -> tuple[PhantomFilm, ...]:
    return tuple(make_film(seed, SETTINGS) for seed in SEEDS)


def objects(film: PhantomFilm, *structures: str) -> list[Segment]:
    """The true outlines of some structures; vertebrae under their names."""
    found = []
    for region in film.regions:
        if region.structure in structures:
            mask = encode_mask(rasterise(region.polygon_xy, *film.pixels.shape))
            structure = Structure[region.structure.upper()]
            level = region.level if region.structure in BONES else None
            found.append(Segment(structure, SegmentKind.INSTANCE, mask, 0.9, mask.box, level))
    return found


def test_screws_and_cages_touch_the_levels_that_they_were_put_into() -> None:
    right = withheld = wrong = 0
    for film in phantoms():
        bones = objects(film, *BONES)
        seen = {bone.level for bone in bones}
        true = [
            set(region.level.split("/")) & seen
            for structure in ("screw", "cage")
            for region in film.regions
            if region.structure == structure
        ]
        implants = [*objects(film, "screw"), *objects(film, "cage")]
        for levels, said in zip(true, touched_levels(implants, bones), strict=True):
            right += set(said) == levels
            withheld += bool(levels) and not said
            wrong += bool(set(said) - levels)
    assert right + withheld + wrong > 40
    # A head and a shaft beside the body leave too little within it: nothing is said then.
    assert right >= 0.9 * (right + withheld + wrong)
    assert wrong <= 0.02 * (right + withheld + wrong)


def test_the_film_tells_rods_apart_that_every_member_sees_as_one() -> None:
    """Members answer perfect regions: rods that lie on each other are one, heads are cut out."""
    before = after = total = drawn = 0
    for film in phantoms():
        height, width = film.pixels.shape
        rods, screws = objects(film, "rod"), objects(film, "screw")
        regions = []
        for structure, of_it in ((Structure.ROD, rods), (Structure.SCREW, screws)):
            if of_it:
                mask = unite([each.mask for each in of_it], height, width)
                regions.append(Segment(structure, SegmentKind.REGION, mask, 0.9, mask.box))
        members = {name: implants_of(regions, height, width) for name in "abc"}
        seen = Film(film.pixels, film.row_spacing_mm, film.column_spacing_mm)
        voted = fuse_implants(members)
        redrawn = fuse_implants_on_film(members, (), None, seen)
        found = [one.segment for one in voted if one.segment.structure is Structure.ROD]
        better = [one.segment for one in redrawn if one.segment.structure is Structure.ROD]
        before += len(match_objects(rods, found).matched_ious)
        after += len(match_objects(rods, better).matched_ious)
        total += len(rods)
        drawn += len(better)
    assert total > 12
    assert after > before
    assert after >= 0.6 * total
    assert after >= 0.6 * drawn


def test_a_film_of_noise_moves_no_rod() -> None:
    """Edges by chance are no rods: outlines over a film without metal stay as they were drawn."""
    film = phantoms()[0]
    height, width = film.pixels.shape
    rods = objects(film, "rod") or objects(film, "screw")
    noise = np.random.default_rng(3).integers(0, 4096, film.pixels.shape).astype(np.uint16)
    mask = unite([each.mask for each in rods], height, width)
    region = Segment(Structure.ROD, SegmentKind.REGION, mask, 0.9, mask.box)
    members = {name: implants_of([region], height, width) for name in "abc"}
    voted = fuse_implants(members)
    redrawn = fuse_implants_on_film(members, (), None, Film(noise))
    assert len(redrawn) >= 1
    covered = unite([one.segment.mask for one in redrawn], height, width).area
    was = unite([one.segment.mask for one in voted], height, width).area
    assert 0.5 * was < covered < 1.5 * was
