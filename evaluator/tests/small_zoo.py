"""Small films, and a zoo of stand-ins that the benchmark runs against."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image
from spinezoo_evaluator.benchmark import command as benchmark

FILMS = 5


def write_films(folder, count=FILMS):
    """Small PNG films with a column of vertebrae, screws on some, and a VIA file."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    via = {}
    for number in range(count):
        height, width = (160, 120) if number % 2 else (144, 112)
        grey = rng.normal(60, 8, (height, width))
        regions = []
        for place in range(5):
            top, left = 6 + place * (26 + number % 3), 30 + 4 * place
            corners = [
                (left, top + 2),
                (left + 40, top),
                (left + 42, top + 22),
                (left + 1, top + 23),
            ]
            grey[top : top + 22, left : left + 40] += 90
            kind = "lumbar_vertebra" if place < 4 else "sacral_vertebra"
            regions.append((kind, corners))
            if number % 2 and place in (1, 2):
                screw = [(left + 10, top + 8), (left + 60, top + 6), (left + 60, top + 13)]
                screw.append((left + 10, top + 12))
                regions.append(("screw", screw))
        name = f"film_{number}.png"
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(folder / name)
        via[name] = {
            "filename": name,
            "size": (folder / name).stat().st_size,
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": [x for x, _ in corners],
                        "all_points_y": [y for _, y in corners],
                    },
                    "region_attributes": {"structure": kind},
                }
                for kind, corners in regions
            ],
            "file_attributes": {},
        }
    (folder / "via.json").write_text(json.dumps(via))
    return folder


class Zoo:
    """A stand-in gateway and the evaluator, and the benchmark run against them."""

    def __init__(self, gateway, target, evaluator, data, folder, capsys):
        self.gateway, self.target, self.evaluator = gateway, target, evaluator
        self.data, self.folder, self._capsys = data, folder, capsys
        self.out = self.err = ""

    def arguments(self, *more):
        words = ["--data", str(self.data), "--report", str(self.folder), "--wait-s", "10"]
        return [*words, "--gateway", self.target, "--evaluator", self.evaluator, *more]

    def run(self, *more, pictures=False):
        if not pictures:
            more = (*more, "--no-pictures")
        code = benchmark.main(self.arguments(*more))
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def report(self):
        return json.loads((self.folder / "report.json").read_text())

    @property
    def markdown(self):
        return (self.folder / "report.md").read_text()
