"""Runs that are broken off, or meet a film twice, lose nothing and keep nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from answers import dicom_of
from parts import SEEDS, ZooProcess, until
from planted import planted_film
from spinezoo_pacs.annotate.command import PROJECT, annotate
from spinezoo_pacs.annotate.project import read_project
from spinezoo_pacs.collect.archives import Fetched, Series
from spinezoo_pacs.collect.command import collect
from spinezoo_pacs.collect.query import Query

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Sent:
    """An archive that sends what it is given, a series each."""

    series: list[tuple[str, list[bytes]]]
    """Part of the body that the header names, and the films."""
    fetched: list[str] = field(default_factory=list)
    """Parts of the body of the series that were fetched."""

    def search(self) -> Iterator[Series]:
        for number, (part, _) in enumerate(self.series):
            yield Series("1.2", f"1.2.{number}", {"BodyPartExamined": part})

    def fetch(self, series: Series) -> Fetched:
        self.fetched.append(series.header["BodyPartExamined"])
        return Fetched(self.series[int(series.series_uid.rpartition(".")[2])][1])


@pytest.fixture
def query(tmp_path: Path) -> Query:
    pacs = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": 1}
    return Query.model_validate({"pacs": pacs, "key": tmp_path / "site.key"})


def test_a_film_that_comes_twice_is_kept_once(tmp_path: Path, query: Query) -> None:
    film = planted_film(1, 1)
    counts = collect(query, tmp_path / "set", Sent([("", [film]), ("", [film])]))
    assert counts == {"kept": 1, "known": 1}
    assert len((tmp_path / "set" / "patients.csv").read_text().splitlines()) == 2


def test_a_series_of_another_part_of_the_body_is_not_fetched(tmp_path: Path, query: Query) -> None:
    others = ("CSPINE", "T-SPINE", "CHEST")
    ours = ("LSPINE", "L SPINE", "LUMBAR_SPINE", "SPINE", "TLSPINE")
    archive = Sent([(part, []) for part in (*others, *ours)])
    counts = collect(query, tmp_path / "set", archive)
    assert counts == {"series-not-lumbar": 3}
    assert archive.fetched == list(ours)


def test_what_was_outlined_stays_when_the_zoo_goes_away(tmp_path: Path, start: Any) -> None:
    films, work = tmp_path / "set", tmp_path / "set-annotate"
    films.mkdir()
    (films / "first.dcm").write_bytes(dicom_of(SEEDS[0]))
    zoo = ZooProcess(tmp_path / "zoo", SEEDS[:1])
    start(zoo)
    annotate(films, work, zoo.target)
    document = json.loads((work / PROJECT).read_text())
    (entry,) = document["_via_img_metadata"].values()
    for region in entry["regions"]:
        region["region_attributes"]["status"] = "approved"
    (work / PROJECT).write_text(json.dumps(document))
    # Many more films come, the one that a person has worked on is away, and so is the zoo soon.
    (films / "first.dcm").rename(tmp_path / "away.dcm")
    for number in range(60):
        cv2.imwrite(str(films / f"z{number}.png"), np.full((64, 64), number, np.uint8))
    command = [sys.executable, "-m", "spinezoo_pacs.annotate.command"]
    with (tmp_path / "log").open("wb") as log:
        asking = subprocess.Popen(
            [*command, "--data", str(films), "--gateway", zoo.target], stdout=log, stderr=log
        )
    until(lambda: len(list(work.glob("png/z*"))) >= 5, 300)
    zoo.kill()
    assert asking.wait(300) == 1
    assert "stopped: " in (tmp_path / "log").read_text()
    kept = {each.film_name: each for each in read_project(work / PROJECT)}
    assert len(kept) >= 5
    assert kept["first.dcm"].finished
    zoo.start()
    annotate(films, work, zoo.target)
    assert len(read_project(work / PROJECT)) == 61
