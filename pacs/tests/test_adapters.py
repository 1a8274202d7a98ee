"""Cornerstone's adapters, which OHIF is built on: equal masks, and outlines that can be edited."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from answers import answered
from javascript import read_by_dcmjs
from spinezoo_contract.masks import decode_mask
from spinezoo_pacs.results import Source, make_results
from spinezoo_pacs.results.findings import findings_of
from spinezoo_pacs.results.seg import label_map
from test_results import WHEN
from test_round_trip import apart

pytestmark = pytest.mark.filterwarnings("ignore")

SEED = 22


def written(folder: Path, viewer: str) -> list[Path]:
    """A film, its SEG, label map and report."""
    data, film, answer = answered(SEED)
    (folder / "film.dcm").write_bytes(data)
    made = make_results(Source(data), answer, film, WHEN, viewer=viewer)  # type: ignore[arg-type]
    for kind, content in made.files().items():
        (folder / f"{kind}.dcm").write_bytes(content)
    return [folder / f"{kind}.dcm" for kind in ("film", "seg", "labelmap", "sr")]


def digest(mask: np.ndarray) -> str:
    return hashlib.sha256(mask.astype(np.uint8).tobytes()).hexdigest()


def test_with_the_ohif_option_masks_are_equal_and_outlines_can_be_edited(tmp_path: Path) -> None:
    findings = findings_of(answered(SEED)[2])
    seg, painted, report = read_by_dcmjs(*written(tmp_path, "ohif"))
    own = {str(each.number): digest(decode_mask(each.mask)) for each in findings}
    assert seg["adapter"] == own
    numbers = label_map(findings)
    shown = {str(n): digest(numbers == n) for n in np.unique(numbers) if n}
    assert painted["adapter"] == shown
    named = [each for each in findings if each.named]
    outlines = [each for each in report["editable"] if each["closed"]]
    assert report["notEditable"] == []
    assert {each["tool"] for each in outlines} == {"PlanarFreehandROI"}
    close = 0
    for each in outlines:
        points = np.array(each["points"]).reshape(-1, 2)
        distances = [apart(decode_mask(finding.mask), points) for finding in named]
        close += min(distances) <= 0.501  # cornerstone keeps coordinates in single precision
    assert close == len(named)


def test_without_it_dcmjs_reads_all_and_the_adapters_say_what_they_miss(tmp_path: Path) -> None:
    seg, painted, report = read_by_dcmjs(*written(tmp_path, "standard"))
    assert len(seg["segments"]) == len(findings_of(answered(SEED)[2]))
    assert report["polygons"]
    # A radiograph has no orientation in the patient; the adapters want one (docs/viewers.md).
    for each in (seg, painted):
        assert "ImageOrientationPatient" in each["adapterError"]
    assert report["editable"] == []
