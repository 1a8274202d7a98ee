"""Segmentations for 3D Slicer hold every pixel of the SEG, read back by pynrrd."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pydicom
import pytest
from answers import answered
from spinezoo_contract.masks import decode_mask
from spinezoo_pacs.results import Source, make_results
from spinezoo_pacs.results.findings import findings_of
from spinezoo_pacs.results.nrrd import layers_of, main
from spinezoo_pacs.results.seg import label_map
from test_results import SEEDS, WHEN

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=SEEDS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[int, Path]:
    data, film, answer = answered(request.param)
    for kind, content in make_results(Source(data), answer, film, WHEN).files().items():
        (tmp_path / f"{kind}.dcm").write_bytes(content)
    (tmp_path / "film.dcm").write_bytes(data)
    return request.param, tmp_path


@pytest.mark.parametrize("kind", ["seg", "labelmap"])
def test_every_pixel_and_name_is_there(files: tuple[int, Path], kind: str) -> None:
    seed, folder = files
    out = folder / "film.seg.nrrd"
    assert main([str(folder / f"{kind}.dcm"), str(out), "--film", str(folder / "film.dcm")]) == 0
    data, header = nrrd.read(str(out))
    findings = findings_of(answered(seed)[2])
    painted = label_map(findings)
    for place, finding in enumerate(findings):
        assert header[f"Segment{place}_Name"] == finding.label
        layer = int(header[f"Segment{place}_Layer"])
        value = int(header[f"Segment{place}_LabelValue"])
        mask = decode_mask(finding.mask) if kind == "seg" else painted == finding.number
        assert (value == data[layer, :, :, 0].T).tolist() == mask.tolist(), finding.label
        left, right, top, bottom, *_ = map(int, header[f"Segment{place}_Extent"].split())
        assert mask[top : bottom + 1, left : right + 1].sum() == mask.sum()
    spacing = float(Source(answered(seed)[0]).dataset.ImagerPixelSpacing[0])
    assert header["space directions"][2][1] == pytest.approx(spacing)


def test_the_spacing_is_that_at_the_detector(files: tuple[int, Path]) -> None:
    _, folder = files
    film = pydicom.dcmread(folder / "film.dcm")
    film.PixelSpacing = [0.1, 0.1]
    film.save_as(folder / "film.dcm")
    out = folder / "film.seg.nrrd"
    assert main([str(folder / "seg.dcm"), str(out), "--film", str(folder / "film.dcm")]) == 0
    directions = nrrd.read_header(str(out))["space directions"]
    assert directions[2][1] == pytest.approx(float(film.ImagerPixelSpacing[0]))


def test_a_film_without_spacing_is_named(
    files: tuple[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = files
    film = pydicom.dcmread(folder / "film.dcm")
    del film.PixelSpacing, film.ImagerPixelSpacing
    film.save_as(folder / "film.dcm")
    seg, out, film_path = (folder / name for name in ("seg.dcm", "film.seg.nrrd", "film.dcm"))
    assert main([str(seg), str(out), "--film", str(film_path)]) == 0
    assert "a pixel is written as 1 mm" in capsys.readouterr().err
    assert nrrd.read_header(str(out))["space directions"][1][0] == 1.0


def test_segments_that_overlap_get_layers() -> None:
    masks = [np.zeros((4, 4), bool) for _ in range(3)]
    masks[0][:2] = masks[1][1:3] = masks[2][3:] = True
    places, layers = layers_of(masks)
    assert places == [0, 1, 0]
    for number, (place, mask) in enumerate(zip(places, masks, strict=True), start=1):
        assert ((layers[place] == number) == mask).all()


def test_what_is_no_seg_is_named(
    files: tuple[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = files
    assert main([str(folder / "sc.dcm"), str(folder / "x.seg.nrrd")]) == 1
    assert "one frame a segment" in capsys.readouterr().err
    assert main([str(folder / "seg.dcm"), str(folder / "x.nrrd")]) == 2
    assert main([str(folder / "absent.dcm"), str(folder / "x.seg.nrrd")]) == 1
