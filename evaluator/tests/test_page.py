"""The page of a report: what it holds, that it asks for nothing, and that it is the same twice."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from outlines import block
from PIL import Image
from small_zoo import FILMS, Zoo, write_films
from spinezoo_contract.types import MemberCode, Structure
from spinezoo_evaluator.benchmark import page as rerender
from spinezoo_evaluator.report.page import strata
from spinezoo_evaluator.report.page.films import MOST_BYTES, Scale, as_address, outlines_of, path_of
from spinezoo_evaluator.report.page.names import name_caption, name_figures
from spinezoo_evaluator.report.page.plots import distributions
from spinezoo_evaluator.results.columns import ColumnCounts
from spinezoo_evaluator.results.records import FUSED, RunFolder
from spinezoo_testing.servers import serving
from stand_in import StandInGateway, make_gateway

ODD = "<script>alert(1)<img src=x onerror=alert(2)> & \"'{{7*7}}" + "o" * 120 + ".png"


class Reader(HTMLParser):
    """Elements, addresses and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text, self.scripts = [], [], "", []
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for key, value in attrs if key in ("href", "src", "xlink:href")]
        self._script = dict(attrs).get("type", "js") if tag == "script" else None

    def handle_data(self, data):
        if self._script:
            self.scripts.append((self._script, data))
        else:
            self.text += data

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def of(self, tag, **wanted):
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]


def page_of(zoo):
    return (zoo.folder / "index.html").read_text()


@pytest.fixture
def odd_zoo(tmp_path, evaluator_target, monkeypatch, capsys):
    """A zoo whose second film has a name of markup, and in whose folder one film has no entry."""
    monkeypatch.chdir(tmp_path)
    data = write_films(tmp_path / "films")
    via = json.loads((data / "via.json").read_text())
    via[ODD] = {**via.pop("film_1.png"), "filename": ODD}
    (data / "film_1.png").rename(data / ODD)
    del via["film_4.png"]
    (data / "via.json").write_text(json.dumps(via))
    gateway = StandInGateway(data)
    with serving(lambda: make_gateway(gateway)) as target:
        yield Zoo(gateway, target, evaluator_target, data, tmp_path / "reports" / "run", capsys)


def test_a_page_holds_every_film_every_network_and_the_study(zoo):
    assert zoo.run(pictures=True) == 0
    page = Reader(page_of(zoo))
    cards = page.of("article", **{"class": "card"})
    assert len(cards) == FILMS
    for number in range(FILMS):
        assert f"film_{number}.png" in page.text
    pictures = [a for a in page.addresses if a.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == FILMS
    with Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2]))) as picture:
        assert picture.size in ((120, 160), (112, 144))
    # Each film has a layer for each network and the ensemble, and its truth beside.
    assert len(page.of("g")) > FILMS * 7
    for place in range(6):
        assert len(page.of("g", **{"class": f"layer l{place}"})) == FILMS
    for text in ("88.64", "U-Net", "Fused ensemble", "Vertebrae and names", "To repeat it"):
        assert text in page.text
    assert "holds pictures of the films" in page.text  # no phantoms: somebody's films
    assert str(zoo.folder.parent.parent) not in page_of(zoo)


def test_a_page_asks_for_nothing_and_runs_its_own_script_only(zoo):
    assert zoo.run(pictures=True) == 0
    text = page_of(zoo)
    page = Reader(text)
    assert [a for a in page.addresses if not a.startswith(("#", "data:image/jpeg;base64,"))] == []
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert not page.of("link")
    policy = page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert [kind for kind, _ in page.scripts] == ["application/json", "js"]
    # Ids are the page's own: two drawings share none.
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a[1:] for a in page.addresses if a.startswith("#")]
    assert set(targets) <= set(ids)


def test_the_same_answers_give_the_same_bytes(zoo, capsys):
    assert zoo.run(pictures=True) == 0
    first = (zoo.folder / "index.html").read_bytes()
    (zoo.folder / "index.html").unlink()
    words = [str(zoo.folder), "--data", str(zoo.data)]
    assert rerender.main(words) == 0
    assert "page: reports/run/index.html" in capsys.readouterr().out
    assert (zoo.folder / "index.html").read_bytes() == first
    assert rerender.main([*words, "--no-pictures"]) == 0
    assert "data:image" not in page_of(zoo)
    assert page_of(zoo).count('<article class="card"') == FILMS


def test_a_picture_of_one_answer(zoo, tmp_path, capsys):
    assert zoo.run() == 0
    picture = tmp_path / "images" / "answer.png"
    words = [str(zoo.folder), "--data", str(zoo.data), "--picture", str(picture)]
    assert rerender.main([*words, "--no-pictures"]) == 0
    assert "picture of film film_" in capsys.readouterr().out
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_a_page_is_not_drawn_from_other_films(zoo, tmp_path, capsys):
    assert zoo.run() == 0
    other = write_films(tmp_path / "other", count=3)
    assert rerender.main([str(zoo.folder), "--data", str(other)]) == 2
    assert "other films or outlines" in capsys.readouterr().err
    assert rerender.main([str(tmp_path), "--data", str(other)]) == 2
    assert "holds no report.json" in capsys.readouterr().err
    assert rerender.main([str(zoo.folder), "--data", str(tmp_path / "nowhere")]) == 2
    assert "--data FOLDER" in capsys.readouterr().err


def test_a_report_that_was_changed_by_hand_is_named(zoo, capsys):
    assert zoo.run() == 0
    words = [str(zoo.folder), "--data", str(zoo.data)]
    whole = zoo.report
    for broken in ({**whole, "models": 3}, {"run": whole["run"]}, {**whole, "run": {}}):
        (zoo.folder / "report.json").write_text(json.dumps(broken))
        assert rerender.main(words) == 2
        assert "run the benchmark again" in capsys.readouterr().err


def test_a_page_shows_the_films_of_its_report_and_no_fewer(zoo, capsys):
    assert zoo.run() == 0
    assert zoo.run("--resume", "--limit", "2") == 0
    words = [str(zoo.folder), "--data", str(zoo.data), "--no-pictures"]
    assert rerender.main(words) == 0
    assert page_of(zoo).count('<article class="card"') == 2
    films = zoo.folder / "films.jsonl"
    kept = [line for line in films.read_text().splitlines(True) if '"film_1.png"' not in line]
    films.write_text("".join(kept))
    assert rerender.main(words) == 2
    assert "lacks 1 film of the report, such as 'film_1.png'" in capsys.readouterr().err


def test_odd_names_are_text_and_what_failed_or_was_left_out_is_named(odd_zoo):
    def plan(film, member):
        ill = member == "yolact" and film == ODD
        return MemberCode.DEADLINE_EXCEEDED if ill else MemberCode.OK

    odd_zoo.gateway.plan = plan
    odd_zoo.run(pictures=True)
    text = page_of(odd_zoo)
    page = Reader(text)
    assert ODD in page.text
    assert "{{7*7}}" in text
    assert not page.of("img")
    assert [kind for kind, _ in page.scripts] == ["application/json", "js"]
    data = json.loads(page.scripts[0][1])
    assert ODD in [film["name"] for film in data["films"]]
    assert [film["failed"] for film in data["films"] if film["name"] == ODD] == [True]
    assert "deadline exceeded" in page.text
    assert "left out, and not measured" in page.text
    assert "film_4.png" in page.text
    assert len(page.of("article")) == FILMS - 1
    # The group by contrast is every film's, also of one whose name is as long as a name can be.
    assert all(film["strata"]["Contrast"] for film in data["films"])


def test_a_film_without_an_answer_stands_first_and_is_told(zoo):
    zoo.gateway.plan = lambda film, member: (
        MemberCode.UNAVAILABLE if film == "film_3.png" else MemberCode.OK
    )
    zoo.run(pictures=True)
    page = Reader(page_of(zoo))
    data = json.loads(page.scripts[0][1])
    assert data["films"][0]["name"] == "film_3.png"
    assert data["films"][0]["failed"]
    values = [film["values"][FUSED][0] for film in data["films"][1:]]
    assert values == sorted(values)
    assert "No answer (" in page.text


def test_an_empty_answer_is_told_from_none(zoo, monkeypatch):
    own = zoo.gateway._segments
    monkeypatch.setattr(
        zoo.gateway,
        "_segments",
        lambda film, member: () if member == "yolact" else own(film, member),
    )
    zoo.gateway.plan = lambda film, member: (
        MemberCode.UNAVAILABLE if (film, member) == ("film_0.png", "unet") else MemberCode.OK
    )
    assert zoo.run(pictures=True) == 0
    page = Reader(page_of(zoo))
    assert page.text.count("nothing found") == FILMS
    assert page.text.count("no answer") == 1


def test_answers_that_are_gone_are_said_and_the_rest_is_drawn(zoo, capsys):
    assert zoo.run() == 0
    next(iter((zoo.folder / "answers").glob("film_2*"))).unlink()
    assert rerender.main([str(zoo.folder), "--data", str(zoo.data)]) == 0
    page = Reader(page_of(zoo))
    assert page.text.count("No outlines:") == 1
    assert len([a for a in page.addresses if a.startswith("data:")]) == FILMS


def test_no_film_takes_more_than_its_part_of_25_mb():
    noise = np.random.default_rng(0).integers(0, 256, (1280, 1280), dtype=np.uint8)
    for size in ((640, 640), (1280, 1280)):
        address = as_address(noise[: size[0], : size[1]])
        assert len(address) < 1.4 * MOST_BYTES
    # Five networks, the ensemble and the truth, 40 wavy outlines each, and the picture.
    angle = np.linspace(0, 2 * np.pi, 400)
    rows, columns = np.mgrid[:256, :256]
    radius = 60 + 10 * np.sin(9 * np.arctan2(rows - 128, columns - 128))
    wavy = block(0, 0, 1, 1, size=(256, 256))
    pixels = np.hypot(rows - 128, columns - 128) < radius
    from outlines import segment

    wavy = segment(pixels)
    path = path_of(wavy, 1.0)
    assert len(angle) > path.count(" ") > 20
    one_film = 1.4 * MOST_BYTES + 7 * 40 * (len(path) + 40)
    assert 100 * one_film < 25e6


def test_outlines_follow_the_mask_and_say_what_they_match():
    truth = [block(10, 10, 20, 30, size=(100, 80))]
    scale = Scale.of(100, 80)
    assert (scale.height, scale.width, scale.factor) == (200, 160, 2.0)
    right, far = outlines_of([*truth, block(60, 40, 20, 20, size=(100, 80))], truth, 2.0)
    assert {right.kind, far.kind} == {"v0", "unmatched"}
    numbers = [int(n) for n in re.findall(r"-?\d+", (right if right.kind == "v0" else far).path)]
    assert numbers[:2] == [21, 21]
    assert Scale.of(6400, 640).height == 1280
    screw = block(0, 0, 5, 5, size=(100, 80), structure=Structure.SCREW)
    assert outlines_of([screw], truth, 2.0)[0].kind == "screw"


def test_names_are_judged_by_the_truth():
    from dataclasses import replace

    truth = [
        replace(block(5 + 30 * n, 10, 20, 30, size=(100, 80)), level=level)
        for n, level in enumerate(("L3", "L4", "L5"))
    ]
    said = [replace(truth[0], level="L3"), replace(truth[1], level="L5")]
    said.append(replace(truth[2], level=None))
    found = {o.label: o.label_kind for o in outlines_of(said, truth, 1.0, named=True)}
    assert found == {"L3": "right", "L5 ≠ L4": "wrong", "?": "withheld"}


def test_groups_of_films():
    bone = block(40, 30, 20, 20, size=(100, 80))
    screw, cage = (
        block(0, 0, 5, 5, size=(100, 80), structure=structure)
        for structure in (Structure.SCREW, Structure.CAGE)
    )
    assert strata.hardware_of([bone]) == "no hardware"
    assert strata.hardware_of([bone, cage]) == "cage only"
    assert strata.hardware_of([bone, screw, cage]) == "screws or rods, and cage"
    assert strata.diseases_of({}) == ("none of these",)
    tags = {"discs": {"L4/L5": {"grade": "collapsed", "slip_mm": 6.0}}, "cobb_deg": 3.0}
    assert strata.diseases_of(tags) == ("collapsed disc", "slip over 5 mm")
    grey = np.full((100, 80), 50, np.uint8)
    grey[40:60, 30:50] = 152
    assert strata.contrast_of(grey, [bone]) == pytest.approx(0.4)
    assert strata.contrast_of(grey, [screw]) is None
    groups = strata.thirds({"a": 0.1, "b": 0.3, "c": 0.2, "d": None})
    assert groups == {"a": "lowest third", "c": "middle third", "b": "highest third"}


def test_what_is_not_known_has_no_figure():
    assert name_figures(None) == {}
    assert name_figures(ColumnCounts(true=4, recognised=2))["named_wrong"] is None
    assert "no name asked for" in name_caption(ColumnCounts(true=4, recognised=2).to_json())


def test_plots_are_drawn_of_few_films_and_of_none():
    titles = {"a": "A < b", "b": "B"}
    for values in ({"a": [0.5], "b": []}, {"a": [0.9] * 30, "b": [0.1, 0.2]}, {}):
        plot = distributions({"x": values}, titles, "Some & other", "")
        assert plot.svg.startswith("<svg")
        assert "A &lt; b" in plot.svg
        assert "#0" not in re.sub(r"#psome\w+-\w+", "", plot.svg)  # no stand-in colour is left


def test_a_report_that_is_none_is_refused(tmp_path):
    from spinezoo_contract.errors import ConfigurationError

    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="is no report"):
        RunFolder(tmp_path).read_report()
