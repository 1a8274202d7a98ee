"""What a client does with a zoo, in words that the old and the new client module both know.

    python old_client.py GATEWAY MEMBER FILM.npy

Prints what it got as JSON. The test runs it with the client of an old commit on ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields

import numpy as np
import spinezoo_contract
from spinezoo.v1 import ensemble_pb2
from spinezoo_contract.client import EnsembleClient, SegmenterClient
from spinezoo_contract.types import EnsembleOptions, Film, RosterMember

TIMEOUT_S = 120.0


def main(gateway: str, member: str, film_path: str) -> None:
    """Asks gateway and member for one film, and the gateway for its roster."""
    film = Film(np.load(film_path))
    with EnsembleClient(gateway) as ensemble:
        answer = ensemble.segment(film, EnsembleOptions(quorum=1), timeout_s=TIMEOUT_S)
        roster = ensemble.list_models(timeout_s=TIMEOUT_S)
    with SegmenterClient(member) as segmenter:
        prediction = segmenter.predict(film, timeout_s=TIMEOUT_S)
    found = {
        "modules": [spinezoo_contract.__file__, ensemble_pb2.__file__],
        "roster_fields": [field.name for field in fields(RosterMember)],
        "size": [answer.height, answer.width],
        "members": {each.status.member_name: each.status.code.name for each in answer.members},
        "fused_from": list(answer.fused.member_names),
        "fused": [
            [each.structure.name, each.mask.counts.decode()] for each in answer.fused.segments
        ],
        "predicted": [
            [each.structure.name, each.mask.counts.decode()] for each in prediction.segments
        ],
        "predicted_by": prediction.provenance.model_name,
        "roster": [
            {
                "name": each.member_name,
                "target": each.target,
                "code": each.status.code.name,
                "message": each.status.message,
                "model": None if each.model is None else each.model.name,
            }
            for each in roster.members
        ],
        "default_quorum": roster.default_quorum,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
