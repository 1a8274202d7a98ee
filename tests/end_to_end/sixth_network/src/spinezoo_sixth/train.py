"""Training: the levels half-way between background, bone and metal of the films at hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from spinezoo_contract.types import Structure
from spinezoo_serving.cards import describe_weights, load_card, update_card
from spinezoo_training.prepared_set import open_film_set, prepare_films
from spinezoo_training.targets import label_map_of

from spinezoo_sixth.network import Thresholds
from spinezoo_sixth.predictor import probe


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, writes the weights and updates the card."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_sixth.train")
    parser.add_argument("--data", type=Path, required=True, help="folder of films with outlines")
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--run-dir", type=Path, help="unused: there is no state to go on from")
    options = parser.parse_args(argv)
    card = load_card(options.card, options.preset)
    opened = open_film_set(options.data)
    films = prepare_films(opened, card.input.height, card.input.width, progress=False)
    sums = np.zeros((3, 2))
    for index in range(len(films)):
        film = films[index]
        labels = label_map_of(film)
        metal = np.isin(labels, [Structure.CAGE, Structure.SCREW, Structure.ROD])
        for row, pixels in enumerate((labels == 0, (labels > 0) & ~metal, metal)):
            sums[row] += film.grey[pixels].sum() / 255.0, pixels.sum()
    background, bone, metal_level = sums[:, 0] / np.maximum(sums[:, 1], 1.0)
    levels = np.array([(background + bone) / 2.0, max(bone + 0.05, (bone + metal_level) / 2.0)])
    weights = options.card.parent / "weights" / f"{options.preset}.safetensors"
    weights.parent.mkdir(exist_ok=True)
    save_file({"levels": levels}, weights)
    entry = describe_weights(
        options.card,
        weights,
        dtype="float64",
        probe_seed=0,
        probe_values=probe(Thresholds(*levels.tolist()), 0),
        probe_tolerance=1e-4,
    )
    update_card(options.card, options.preset, weights=entry, training={"films": len(films)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
