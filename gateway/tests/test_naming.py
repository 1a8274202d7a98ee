"""The fused vertebrae of an answer carry their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from spinezoo.v1 import ensemble_pb2, labelling_pb2
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Film, FusionOptions, Segment, SegmentKind, Structure
from spinezoo_gateway.members import vote_of
from spinezoo_gateway.service import fuse_and_name
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_testing.columns import phantom_column

HEIGHT, WIDTH = 320, 120
FILM = Film(np.full((HEIGHT, WIDTH), 90, np.uint8))


def column(lowest: Structure = Structure.SACRAL_VERTEBRA) -> list[Segment]:
    """Six bodies above each other as two regions; the lowest is of the given structure."""
    regions = {}
    for place in range(6):
        structure = lowest if place == 5 else Structure.LUMBAR_VERTEBRA
        pixels = regions.setdefault(structure, np.zeros((HEIGHT, WIDTH), bool))
        pixels[10 + 48 * place : 44 + 48 * place, 40:88] = True
    return [
        Segment(structure, SegmentKind.REGION, encode_mask(p), 0.9, mask_box(encode_mask(p)))
        for structure, p in regions.items()
    ]


def test_fused_regions_are_taken_apart_and_read() -> None:
    votes = {name: vote_of(column(), HEIGHT, WIDTH) for name in ("a", "b", "c")}
    fused = fuse_and_name(votes, FusionOptions(), FILM, built_in_reader())
    assert len(fused.segments) == 2
    assert fused.labelling is not None
    assert len(fused.labelling.vertebrae) == 6
    assert fused.labelling.reader is not None


def test_what_all_networks_outline_is_named_from_the_film() -> None:
    """Every network calls S1 lumbar: only the film can tell."""
    right = wrong = 0
    for seed in range(6):
        made, pixels = phantom_column(seed)
        said = [
            replace(s, level=None, structure=Structure.LUMBAR_VERTEBRA)
            if s.level == "S1"
            else replace(s, level=None)
            for s in made.segments
        ]
        votes = {name: vote_of(said, made.height, made.width) for name in ("a", "b", "c")}
        labelling = fuse_and_name(votes, FusionOptions(), Film(pixels), built_in_reader()).labelling
        assert labelling is not None
        true = {segment.box: segment.level for segment in made.segments}
        for vertebra in labelling.vertebrae:
            level = vertebra.segment.level
            right += level is not None and level == true.get(vertebra.segment.box)
            wrong += level is not None and level != true.get(vertebra.segment.box)
    assert right >= 30
    assert wrong <= 1


def test_an_outline_tells_vertebrae_apart_that_the_fused_region_holds_as_one() -> None:
    filled = np.zeros((HEIGHT, WIDTH), bool)
    filled[10:284, 40:88] = True  # no disc is left open
    mask = encode_mask(filled)
    region = Segment(Structure.LUMBAR_VERTEBRA, SegmentKind.REGION, mask, 0.9, mask_box(mask))
    outlines = []
    for place in range(6):
        pixels = np.zeros((HEIGHT, WIDTH), bool)
        pixels[10 + 48 * place : 44 + 48 * place, 40:88] = True
        mask = encode_mask(pixels)
        structure = Structure.SACRAL_VERTEBRA if place == 5 else Structure.LUMBAR_VERTEBRA
        outlines.append(Segment(structure, SegmentKind.INSTANCE, mask, 0.9, mask_box(mask)))
    votes = {
        "a": vote_of([region], HEIGHT, WIDTH),
        "b": vote_of([region], HEIGHT, WIDTH),
        "c": vote_of(outlines, HEIGHT, WIDTH),
    }
    fused = fuse_and_name(votes, FusionOptions(), FILM, built_in_reader())
    assert fused.labelling is not None
    said = [vertebra.segment for vertebra in fused.labelling.vertebrae]
    assert [segment.box for segment in said] == [segment.box for segment in outlines]


def test_an_answer_over_the_wire_says_who_named_and_what_the_film_shows(five, film: Film) -> None:
    said = five.segment(film).fused.labelling
    card = built_in_reader().card
    assert said.reader.weights_sha256 == card.weights_sha256
    assert said.reader.version == card.version
    assert said.film.view != labelling_pb2.FILM_VIEW_UNSPECIFIED
    assert not said.HasField("lumbar_count")
    assert len(said.vertebrae) == 1
    assert not said.vertebrae[0].segment.HasField("level")
    assert said.vertebrae[0].unnamed_reason != labelling_pb2.UNNAMED_REASON_UNSPECIFIED


def test_the_list_of_models_says_which_reader_names(five) -> None:
    listed = five.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10)
    assert listed.reader.weights_sha256 == built_in_reader().card.weights_sha256
