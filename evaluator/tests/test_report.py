"""Titles, cells and templates of reports."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from spinezoo_evaluator.report.markdown import markdown_table, render
from spinezoo_evaluator.report.names import ordered_names, titles_of
from spinezoo_evaluator.results.records import FUSED


def test_titles_are_what_networks_say_of_themselves():
    said = {
        "unet": {"architecture": "U-Net (Ronneberger 2015), Keras 3"},
        "bare": {"architecture": "Sixth"},
        "silent": {"architecture": ""},
        "away": None,
    }
    assert titles_of(said) == {
        FUSED: "Fused ensemble",
        "unet": "U-Net",
        "bare": "Sixth",
        "silent": "silent",
        "away": "away",
    }


def test_the_study_s_networks_come_first_and_the_ensemble_last():
    names = [FUSED, "zebra", "yolact", "ant", "unet"]
    assert ordered_names(names) == ["unet", "yolact", "ant", "zebra", FUSED]


def test_cells_are_escaped_for_markdown_and_not_for_html():
    table = (["film", "n"], [["a|b\n<c> & *d*", "1"]])
    assert markdown_table(table) == "| film | n |\n| --- | ---: |\n| a\\|b <c> & *d* | 1 |"
    assert "---:" not in markdown_table(table, numbers=False)


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render("real_check.md.j2", data={"name": "x"})
