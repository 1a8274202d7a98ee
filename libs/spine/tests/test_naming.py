from __future__ import annotations

import numpy as np
from spinezoo_contract import codec
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Labelling, Structure, UnnamedReason
from spinezoo_spine.column.naming import named_column
from spinezoo_testing.columns import column, region


def regions(made):
    return [
        region(
            np.any([decode_mask(s.mask) for s in made.segments if s.structure is kind], axis=0),
            kind,
        )
        for kind in (Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)
    ]


def test_regions_become_named_vertebrae_that_the_wire_takes():
    made = column(size=36, height=420)
    said = named_column(regions(made), made.height, made.width)
    assert [v.segment.level for v in said.vertebrae] == [
        *("T12", "L1", "L2", "L3", "L4", "L5"),
        *("S1", "S2"),
    ]
    assert said.sacrum_in_view
    assert all(v.unnamed_reason is None and v.confidence >= 0.5 for v in said.vertebrae)
    message = codec.to_proto(said)
    assert codec.from_proto(Labelling, message, made.height, made.width) == said


def test_implants_are_left_out_and_reasons_are_those_of_the_contract():
    made = column().without("S1", "S2")
    screw = region(decode_mask(made.of("L4").mask), Structure.SCREW)
    said = named_column([*made.segments, screw], made.height, made.width)
    assert len(said.vertebrae) == 6
    assert {v.unnamed_reason for v in said.vertebrae} == {UnnamedReason.NO_SACRUM}
    assert named_column([], 10, 10).vertebrae == ()
