from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import AnnotationError, FilmError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.coco import write_coco
from spinezoo_spine.annotations.film_set import FilmSet, describe_film_set
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import read_via, write_via


def test_films_and_outlines(film_folder: Path) -> None:
    films = FilmSet.open(film_folder)
    assert films.names == tuple(f"film_{number}.png" for number in range(6))
    assert films.film("film_2.png").pixels.shape == films.film_size("film_2.png") == (160, 120)
    assert films.annotation("film_2.png").regions[0].level == "L3"
    assert films.unannotated == ()


def test_every_annotation_format_is_found(film_folder: Path) -> None:
    annotations = read_via(film_folder / "via.json")
    (film_folder / "via.json").unlink()
    (film_folder / "phantom.json").write_text(json.dumps({"films": [], "seed": 1}))
    (film_folder / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(AnnotationError, match="no VIA or COCO"):
        FilmSet.open(film_folder)
    for name, version in [("a.json", 1), ("b.json", 2), ("c.json", 3), ("d.csv", 1), ("e.csv", 3)]:
        write_via(film_folder / name, annotations, version=version)
        assert FilmSet.open(film_folder).annotations_path == film_folder / name
        (film_folder / name).unlink()
    sizes = dict.fromkeys((a.film_name for a in annotations), (160, 120))
    write_coco(film_folder / "f.json", annotations, sizes)
    assert len(FilmSet.open(film_folder).names) == 6
    write_via(film_folder / "g.json", annotations)
    with pytest.raises(AnnotationError, match=r"f\.json, g\.json"):
        FilmSet.open(film_folder)
    assert len(FilmSet.open(film_folder, film_folder / "g.json").names) == 6
    write_via(film_folder / "via.json", annotations)
    assert len(FilmSet.open(film_folder).names) == 6


def test_films_by_path_and_films_without_ending(film_folder: Path, make_dicom) -> None:
    (film_folder / "IM0001").write_bytes(make_dicom(np.ones((32, 32), np.uint16)))
    (film_folder / "1.2.840.99").write_bytes(make_dicom(np.ones((32, 32), np.uint16)))
    (film_folder / "README").write_text("no film")
    (film_folder / ".hidden.png").write_bytes(b"")
    region = Region(Structure.ROD, [[1, 1], [9, 1], [9, 9]])
    write_via(
        film_folder / "via.json",
        [FilmAnnotation(r"C:\films\IM0001", (region,)), FilmAnnotation("x/film_1.png", ())],
    )
    films = FilmSet.open(film_folder)
    assert films.names == ("IM0001", "film_1.png")
    assert films.annotation("IM0001").film_name == "IM0001"
    assert films.unannotated[0] == "1.2.840.99"
    assert "README" not in films.film_paths


def test_what_is_wrong_is_named(film_folder: Path, tmp_path: Path) -> None:
    films = FilmSet.open(film_folder)
    with pytest.raises(FilmError, match=r"'x\.png'"):
        films.film("x.png")
    with pytest.raises(AnnotationError, match=r"'x\.png'"):
        films.annotation("x.png")
    (film_folder / "film_2.png").write_bytes(b"")
    with pytest.raises(FilmError, match=r"film_2\.png: film has 0 bytes"):
        films.film("film_2.png")
    (film_folder / "film_2.png").unlink()
    with pytest.raises(AnnotationError, match=r"via\.json: film 'film_2\.png' is not in"):
        FilmSet.open(film_folder)
    with pytest.raises(FilmError, match="not a folder"):
        FilmSet.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FilmError, match="holds no film"):
        FilmSet.open(tmp_path / "empty")
    write_via(film_folder / "via.json", [FilmAnnotation("film_1.png", ())])
    text = (film_folder / "via.json").read_text().replace('"regions": []', '"regions": [{}]')
    (film_folder / "via.json").write_text(text)
    with pytest.raises(
        AnnotationError, match=r"via\.json: 2 errors(.|\n)*film 'film_1\.png', region 0"
    ):
        FilmSet.open(film_folder)


def test_a_film_set_describes_itself(film_folder: Path) -> None:
    before = describe_film_set(film_folder)
    assert before["folder"] == "films"
    assert "phantom" not in before
    recipe = {"generator": "2", "seed": 7, "count": 6, "films": []}
    (film_folder / "phantom.json").write_text(json.dumps(recipe))
    assert describe_film_set(film_folder) == {
        **before,
        "phantom": {"generator": "2", "seed": 7, "count": 6},
    }
    write_via(film_folder / "via.json", read_via(film_folder / "via.json")[:3])
    assert describe_film_set(film_folder)["annotations_sha256"] != before["annotations_sha256"]
