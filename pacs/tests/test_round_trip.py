"""Films go by storescu through node, zoo and Orthanc; what comes back is read by every library.

One node answers a film in each of eight transfer syntaxes; the tests look at what then lies in
Orthanc.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import highdicom
import numpy as np
import pytest
from answers import dicom_of
from conftest import peers
from dicomweb_client.api import DICOMwebClient
from highdicom import _standard_utils as standard
from javascript import read_by_dcmjs
from numpy.typing import NDArray
from parts import ORTHANC, SEEDS, NodeProcess, OrthancProcess, ZooProcess
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.masks import decode_mask
from spinezoo_pacs.results.findings import Finding, findings_of
from spinezoo_pacs.results.seg import label_map
from spinezoo_spine.annotations.mask_outlines import rings_of_mask

pytestmark = pytest.mark.filterwarnings("ignore")

SYNTAXES = {
    "implicit": ("dcmconv", "+ti", "-xi"),
    "explicit": ("dcmconv", "+te", "-xe"),
    "big-endian": ("dcmconv", "+tb", "-xb"),
    "deflated": ("dcmconv", "+td", "-xd"),
    "jpeg": ("dcmcjpeg", "+e1", "-xs"),
    "jpeg-ls": ("dcmcjpls", "+el", "-xt"),
    "rle": ("dcmcrle", "", "-xr"),
    "jpeg-2000": ("", "", "-xv"),
}
"""How a film is written in a transfer syntax, and storescu's option that proposes it."""

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"

PER_FRAME = {"segmentation-multi-frame-functional-groups", "sr-document-content"}
"""Modules whose attributes depend on place or kind of value; the tables want all at once."""


@dataclass
class Answered:
    """One film, the gateway's answer to it, and the files that are in its study in Orthanc."""

    film: Path
    source: Any
    findings: tuple[Finding, ...]
    series: list[str]
    found_by_qido: int
    files: dict[str, Path] = field(default_factory=dict)


def store_by_dcmtk(port: int, propose: str, path: Path) -> None:
    """C-STORE by storescu, in one transfer syntax."""
    command = ["storescu", propose, "-aet", "STORESCU", "-aec", "SPINEZOO", "127.0.0.1", str(port)]
    subprocess.run([*command, path], check=True, timeout=60)


def write_film(path: Path, seed: int, syntax: str) -> None:
    """A phantom in a transfer syntax."""
    program, option, _ = SYNTAXES[syntax]
    plain = path.with_suffix(".plain")
    plain.write_bytes(dicom_of(seed))
    if program:
        subprocess.run([program, *filter(None, [option]), plain, path], check=True)
    else:
        dataset = dcmread(plain)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.save_as(path)
    plain.unlink()


def kind_of(dataset: Any) -> str:
    if dataset.Modality == "SEG":
        return "labelmap" if dataset.SOPClassUID == LABEL_MAP else "seg"
    return {"SR": "sr", "OT": "sc"}.get(dataset.Modality, "film")


@pytest.fixture(scope="module")
def answered(
    tmp_path_factory: pytest.TempPathFactory, zoo: ZooProcess
) -> Iterator[dict[str, Answered]]:
    if ORTHANC is None or shutil.which("storescu") is None:
        pytest.skip("Orthanc or dcmtk is not installed (Debian: orthanc, orthanc-dicomweb, dcmtk)")
    folder = tmp_path_factory.mktemp("round-trip")
    archive = OrthancProcess(folder / "orthanc", {})
    node = NodeProcess(folder / "node", zoo.target, peers(archive))
    made: dict[str, Answered] = {}
    try:
        archive.start()
        node.start()
        for seed, (name, (_, _, propose)) in zip(SEEDS, SYNTAXES.items(), strict=False):
            path = folder / f"{name}.dcm"
            write_film(path, seed, name)
            archive.upload(path.read_bytes())
            store_by_dcmtk(node.port, propose, path)
        node.settled(len(SYNTAXES))
        assert node.films() == {"waiting": 0, "answered": 0, "done": len(SYNTAXES), "aside": 0}
        web = DICOMwebClient(f"{archive.url}/dicom-web")
        for name in SYNTAXES:
            path = folder / f"{name}.dcm"
            source = dcmread(path)
            with EnsembleClient(zoo.target) as client:
                findings = findings_of(client.segment(path.read_bytes()))
            study = source.StudyInstanceUID
            series = sorted(one["00080060"]["Value"][0] for one in web.search_for_series(study))
            found = len(web.search_for_instances(study))
            one = Answered(path, source, findings, series, found)
            for instance in archive.find(StudyInstanceUID=study):
                content = archive.file(instance)
                kind = kind_of(dcmread(io.BytesIO(content), stop_before_pixels=True))
                one.files[kind] = folder / f"{name}.{kind}.dcm"
                one.files[kind].write_bytes(content)
            made[name] = one
        yield made
    finally:
        node.kill()
        archive.kill()


def masks_of(one: Answered) -> list[NDArray[np.bool_]]:
    return [decode_mask(finding.mask) for finding in one.findings]


def test_results_lie_in_their_films_study_and_are_found_by_qido(
    answered: dict[str, Answered],
) -> None:
    assert len(answered) == 8
    for name, one in answered.items():
        assert one.series == ["CR", "OT", "SEG", "SEG", "SR"], name
        assert one.found_by_qido == 5, name
        for kind, path in one.files.items():
            result = dcmread(path)
            assert result.StudyInstanceUID == one.source.StudyInstanceUID, (name, kind)
            assert result.PatientID == one.source.PatientID, (name, kind)


def test_highdicom_and_pydicom_read_the_gateways_masks_pixel_for_pixel(
    answered: dict[str, Answered],
) -> None:
    for name, one in answered.items():
        assert len(one.findings) >= 5, name
        uid = one.source.SOPInstanceUID
        raw = dcmread(one.files["seg"]).pixel_array
        by_highdicom = highdicom.seg.segread(one.files["seg"]).get_pixels_by_source_instance(
            [uid], ignore_spatial_locations=True
        )
        for place, mask in enumerate(masks_of(one)):
            assert (raw[place] == mask).all(), name
            assert (by_highdicom[0, :, :, place] == mask).all(), name
        painted = label_map(one.findings)
        assert (dcmread(one.files["labelmap"]).pixel_array == painted).all(), name
        read = highdicom.seg.segread(one.files["labelmap"])
        combined = read.get_pixels_by_source_instance(
            [uid], ignore_spatial_locations=True, combine_segments=True
        )
        assert (combined[0] == painted).all(), name


def apart(mask: NDArray[np.bool_], polygon: NDArray[np.float64]) -> float:
    """Greatest distance between a mask's border and a polygon, both ways, in px."""
    border = max(rings_of_mask(mask), key=len).astype(np.float32)
    drawn = polygon.astype(np.float32)
    ways = (
        [abs(cv2.pointPolygonTest(drawn, point.tolist(), True)) for point in border],
        [abs(cv2.pointPolygonTest(border, point.tolist(), True)) for point in drawn],
    )
    return max(max(way) for way in ways)


def test_polygons_lie_within_half_a_pixel_of_the_masks(answered: dict[str, Answered]) -> None:
    for name, one in answered.items():
        named = {finding.label: finding for finding in one.findings if finding.named}
        report = highdicom.sr.srread(one.files["sr"])
        groups = report.content.get_planar_roi_measurement_groups()
        assert sorted(group.tracking_identifier for group in groups) == sorted(named), name
        for group in groups:
            mask = decode_mask(named[group.tracking_identifier].mask)
            assert apart(mask, group.roi.value) <= 0.5, name


def test_dcmjs_reads_the_same_masks_and_polygons(answered: dict[str, Answered]) -> None:
    for name, one in answered.items():
        paths = [one.files[kind] for kind in ("seg", "labelmap", "sr", "sc")]
        seg, painted, report, picture = read_by_dcmjs(one.film, *paths)
        digests = [digest(mask.astype(np.uint8)) for mask in masks_of(one)]
        assert [each["mask"] for each in seg["segments"]] == digests, name
        assert [each["label"] for each in seg["segments"]] == [f.label for f in one.findings]
        assert painted["map"] == digest(label_map(one.findings).astype(painted_type(one)))
        named = {finding.label: finding for finding in one.findings if finding.named}
        assert sorted(each["name"] for each in report["polygons"]) == sorted(named), name
        for each in report["polygons"]:
            points = np.array(each["points"], float).reshape(-1, 2)
            assert each["film"] == one.source.SOPInstanceUID
            assert apart(decode_mask(named[each["name"]].mask), points) <= 0.5, name
        assert picture["size"] == [one.source.Rows, one.source.Columns]
        assert {each["study"] for each in (seg, painted, report, picture)} == {
            one.source.StudyInstanceUID
        }


def digest(pixels: NDArray[np.generic]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def painted_type(one: Answered) -> str:
    return f"<u{dcmread(one.files['labelmap']).BitsAllocated // 8}"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_dciodvfy_finds_no_error_that_the_film_did_not_have(answered: dict[str, Answered]) -> None:
    def errors(path: Path) -> set[str]:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        return {line for line in (done.stdout + done.stderr).splitlines() if "Error" in line}

    for name, one in answered.items():
        before = errors(one.film)
        for kind in ("seg", "sr", "sc"):
            assert not errors(one.files[kind]) - before, (name, kind)


@pytest.mark.parametrize("kind", ["seg", "labelmap", "sr", "sc"])
def test_mandatory_modules_are_complete(answered: dict[str, Answered], kind: str) -> None:
    """By the standard's tables in highdicom: Debian's dciodvfy is older than label maps."""
    for one in answered.values():
        dataset = dcmread(one.files[kind])
        name = standard.get_sop_class_iod_map()[dataset.SOPClassUID]
        modules = standard.get_iod_module_map()[name]
        for module in modules:
            if module["usage"] == "M" and module["key"] not in PER_FRAME:
                standard.check_required_attributes(dataset, module=module["key"])
