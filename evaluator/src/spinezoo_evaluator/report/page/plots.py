"""Plots of a report's page, drawn by Matplotlib as SVG.

Matplotlib because it lays text out with a font of its own and needs neither browser nor script: the
same figures give the same bytes on every machine, and a page opens, prints and is read without
JavaScript. Text stays text. Colours are variables of the page's style sheet, so that one drawing
serves light and dark; models differ by marker and dash as well as by colour.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from spinezoo_evaluator.report.page.content import Plot
from spinezoo_evaluator.report.reliability import Names, bins_of, given_from

# Stand-ins that no drawing uses otherwise; see `_finish`.
_VARIABLES = {
    "#010203": "ink",
    "#020304": "soft",
    "#030405": "line",
    "#040506": "back",
    "#050607": "right",
    "#060708": "wrong",
    "#070809": "withheld",
    **{f"#0a0b{n:02x}": f"m{n}" for n in range(8)},
}
_COLOUR = {name: stand_in for stand_in, name in _VARIABLES.items()}
_MARKERS = "osD^vPXh"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), "-", "--")

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": _COLOUR["line"],
    "axes.labelcolor": _COLOUR["ink"],
    "axes.titlecolor": _COLOUR["ink"],
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _COLOUR["line"],
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "xtick.color": _COLOUR["line"],
    "ytick.color": _COLOUR["line"],
    "xtick.labelcolor": _COLOUR["ink"],
    "ytick.labelcolor": _COLOUR["ink"],
    "ytick.major.size": 0.0,
    "text.color": _COLOUR["ink"],
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "hatch.linewidth": 0.8,
}

LEAST_NAMES = 8
"""Of a point in the drawing of confidence: fewer names say nothing about a share."""

WIDTH_IN = 9.6
"""Width of every drawing, in inches of 72 drawing units."""


def model_colour(place: int) -> str:
    """The stand-in colour of the model at a place of the order."""
    return _COLOUR[f"m{place % 8}"]


@contextmanager
def _drawing(height_in: float, **grid: Any) -> Iterator[tuple[Figure, Any]]:
    with mpl.rc_context():
        mpl.rcParams.update(mpl.rcParamsDefault)
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        yield figure, figure.subplots(squeeze=False, **grid)


def _finish(figure: Figure, title: str, caption: str) -> Plot:
    """The drawing as an SVG element whose colours are the page's and whose ids are its own."""
    salt = "p" + "".join(char for char in title.lower() if char.isalnum())
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    for stand_in, name in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "var(--font)", svg)
    svg = svg.replace("xlink:href", "href").replace(
        ' xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    # Markers and clips are found by id; two drawings must not share one.
    for found in dict.fromkeys(re.findall(r' id="([^"]+)"', svg)):
        svg = svg.replace(f'"{found}"', f'"{salt}-{found}"').replace(
            f"#{found}", f"#{salt}-{found}"
        )
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    svg = re.sub(r"\s*\n\s*", "\n", svg).strip()
    return Plot(svg, title, caption)


def _percent_axis(axes: Axes, which: str = "x") -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def _models_below(figure: Figure, handles: Sequence[Any], titles: Sequence[str]) -> None:
    figure.legend(handles, titles, loc="outside lower center", ncols=min(6, len(titles)))


def jitter(count: int) -> NDArray[Any]:
    """Offsets between -1 and 1 that spread neighbours apart, the same every time."""
    golden = (5**0.5 - 1) / 2
    return 2 * ((np.arange(count) * golden + 0.5) % 1.0) - 1.0


def _strip(axes: Axes, values: Sequence[float], place: float, colour: str, marker: str) -> None:
    """Films as points about a line, the median as a tick, a violin behind where there are many."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if len(ordered) >= 10 and np.ptp(ordered) > 1e-9:
        body: Any = axes.violinplot(
            [ordered], [place], orientation="horizontal", widths=0.84, showextrema=False, points=60
        )
        for shape in body["bodies"]:
            shape.set(facecolor=colour, alpha=0.22, edgecolor=colour, linewidth=0.6)
    if len(ordered):
        axes.scatter(
            ordered, place + 0.26 * jitter(len(ordered)), s=7, color=colour, alpha=0.75,
            marker=marker, linewidths=0,
        )  # fmt: skip
        middle = float(np.median(ordered))
        axes.plot([middle, middle], [place - 0.36, place + 0.36], color=_COLOUR["ink"], lw=1.8)


def distributions(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    titles: Mapping[str, str],
    name: str,
    caption: str,
    *,
    logarithmic: bool = False,
) -> Plot:
    """A strip and a violin by model, one panel a figure.

    Args:
        panels: Films' values by figure's title, then by model.
        titles: Models in order.
        name: Title of the drawing.
        caption: How to read it.
        logarithmic: Whether values are in ms on a logarithmic axis; otherwise they are shares.
    """
    models = list(titles)
    with _drawing(0.8 + 0.42 * len(models), ncols=len(panels), sharey=True) as (figure, grid):
        for axes, (title, of_model) in zip(grid[0], panels.items(), strict=True):
            axes.set_title(title)
            if logarithmic:
                axes.set_xscale("log")
            for place, model in enumerate(models):
                values = of_model.get(model, ())
                _strip(axes, values, place, model_colour(place), _MARKERS[place % 8])
            axes.grid(axis="y", visible=False)
            if logarithmic:
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f} ms"))
                axes.xaxis.set_major_locator(LogLocator(10.0, subs=(1.0, 2.0, 5.0)))
                axes.xaxis.set_minor_locator(NullLocator())
            else:
                axes.set_xlim(right=1.0)
                _percent_axis(axes)
        grid[0][0].set_yticks(range(len(models)), [titles[model] for model in models])
        grid[0][0].set_ylim(len(models) - 0.4, -0.6)
        return _finish(figure, name, caption)


def by_strata(
    strata: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    titles: Mapping[str, str],
    first: str,
    axis: str,
    name: str,
    caption: str,
) -> Plot:
    """Films of one model as strips by group, and every other model's median as its marker.

    Args:
        strata: Films' values by stratum, group and model.
        titles: Models in order.
        first: The model whose films are shown.
        axis: Title of the figure.
        name: Title of the drawing.
        caption: How to read it.
    """
    models = list(titles)
    rows = [len(groups) for groups in strata.values()]
    with _drawing(
        1.0 + 0.36 * sum(rows) + 0.65 * len(rows),
        nrows=len(strata),
        sharex=True,
        gridspec_kw={"height_ratios": rows},
    ) as (figure, grid):
        handles: dict[str, Any] = {}
        for axes, (stratum, groups) in zip(grid[:, 0], strata.items(), strict=True):
            axes.set_title(stratum)
            axes.grid(axis="y", visible=False)
            labels = []
            for place, (group, of_model) in enumerate(groups.items()):
                shown = of_model.get(first, ())
                labels.append(f"{group} (n = {max(map(len, of_model.values()), default=0)})")
                _strip(axes, shown, place, model_colour(models.index(first)), "o")
                for number, model in enumerate(models):
                    values = of_model.get(model, ())
                    if model != first and len(values):
                        (handles[titles[model]],) = axes.plot(
                            [float(np.median(values))], [place], _MARKERS[number % 8], ms=6,
                            mfc=model_colour(number), mec=_COLOUR["back"], mew=0.7,
                        )  # fmt: skip
            axes.set_yticks(range(len(labels)), labels)
            axes.set_ylim(len(labels) - 0.4, -0.6)
            axes.set_xlim(right=1.0)
            axes.tick_params(labelbottom=True)
            _percent_axis(axes)
        grid[-1, 0].set_xlabel(axis)
        if handles:
            _models_below(figure, list(handles.values()), [f"median, {t}" for t in handles])
        return _finish(figure, name, caption)


def against_study(
    panels: Mapping[str, Mapping[str, tuple[float | None, float | None]]],
    titles: Mapping[str, str],
    name: str,
    caption: str,
) -> Plot:
    """Our value as a full marker and the study's as an empty one, one panel a metric.

    Args:
        panels: (ours, the study's) as shares by metric's title, then by model.
        titles: Models in order.
        name: Title of the drawing.
        caption: How to read it.
    """
    models = list(titles)
    with _drawing(0.9 + 0.3 * len(models), ncols=len(panels), sharey=True) as (figure, grid):
        full = empty = None
        for axes, (title, of_model) in zip(grid[0], panels.items(), strict=True):
            axes.set_title(title)
            for place, model in enumerate(models):
                ours, study = of_model.get(model, (None, None))
                if ours is not None and study is not None:
                    axes.plot([ours, study], [place, place], color=_COLOUR["soft"], lw=1.0)
                if study is not None:
                    (empty,) = axes.plot(
                        [study], [place], "o", ms=7, mfc=_COLOUR["back"], mec=_COLOUR["ink"]
                    )
                if ours is not None:
                    (full,) = axes.plot([ours], [place], "o", ms=7, color=_COLOUR["m0"])
            axes.grid(axis="y", visible=False)
            axes.margins(x=0.15)
            axes.locator_params(axis="x", nbins=4)
            _percent_axis(axes)
        grid[0][0].set_yticks(range(len(models)), [titles[model] for model in models])
        grid[0][0].set_ylim(len(models) - 0.4, -0.6)
        shown = [(h, t) for h, t in ((full, "these films"), (empty, "the study's films")) if h]
        _models_below(figure, [h for h, _ in shown], [t for _, t in shown])
        return _finish(figure, name, caption)


def name_shares(shares: Mapping[str, tuple[float, float, float]], name: str, caption: str) -> Plot:
    """Names right, withheld and wrong as one bar a model.

    Args:
        shares: (right, withheld, wrong) as shares, by model's title.
        name: Title of the drawing.
        caption: How to read it.
    """
    kinds = (("right", "right", ""), ("withheld", "withheld", "////"), ("wrong", "wrong", "xxxx"))
    with _drawing(0.9 + 0.34 * len(shares)) as (figure, grid):
        axes = grid[0][0]
        left = np.zeros(len(shares))
        for number, (kind, title, hatch) in enumerate(kinds):
            widths = np.array([each[number] for each in shares.values()])
            axes.barh(
                range(len(shares)), widths, left=left, height=0.66, label=title, hatch=hatch,
                color=_COLOUR[kind], edgecolor=_COLOUR["back"], linewidth=0.8,
            )  # fmt: skip
            left += widths
        for place, (right, withheld, wrong) in enumerate(shares.values()):
            text = f"{100 * right:.1f} / {100 * withheld:.1f} / {100 * wrong:.1f} %"
            axes.text(1.01, place, text, va="center")
        axes.set_yticks(range(len(shares)), list(shares))
        axes.set_ylim(len(shares) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.grid(axis="y", visible=False)
        _percent_axis(axes)
        handles, labels = axes.get_legend_handles_labels()
        _models_below(figure, handles, labels)
        return _finish(figure, name, caption)


def trust(
    names: Mapping[str, Names],
    titles: Mapping[str, str],
    threshold: float | None,
    name: str,
    caption: str,
) -> Plot:
    """Coverage against wrong names on the left, confidence against right names on the right.

    Args:
        names: Of each vertebra its confidence and whether its name is right, by model.
        titles: Models in order.
        threshold: Names are given from this confidence on.
        name: Title of the drawing.
        caption: How to read it.
    """
    with _drawing(4.3, ncols=2) as (figure, grid):
        curve, calibration = grid[0]
        handles, labels = [], []
        for place, model in enumerate(titles):
            if not names.get(model):
                continue
            look: dict[str, Any] = {"color": model_colour(place), "lw": 1.6}
            shares = [given_from(names[model], t) for t in np.linspace(1.0, 0.0, 101)]
            covered, wrong = [right + wrong for right, wrong in shares], [w for _, w in shares]
            curve.plot(covered, wrong, linestyle=_DASHES[place % 8], **look)
            if threshold is not None:
                now = given_from(names[model], threshold)
                curve.plot(
                    [sum(now)], [now[1]], _MARKERS[place % 8], ms=7, mfc=model_colour(place),
                    mec=_COLOUR["back"], clip_on=False, zorder=5,
                )  # fmt: skip
            bins = [each for each in bins_of(names[model]) if each[2] >= LEAST_NAMES]
            (line,) = calibration.plot(
                [said for said, _, _ in bins], [share for _, share, _ in bins],
                marker=_MARKERS[place % 8], ms=5, linestyle=_DASHES[place % 8], **look,
            )  # fmt: skip
            handles.append(line)
            labels.append(titles[model])
        curve.set_title("Names given against names wrong")
        curve.set_xlabel("vertebrae that get a name (coverage)")
        curve.set_ylabel("vertebrae with a wrong name")
        curve.set_xlim(0, 1)
        curve.set_ylim(0, max(0.05, curve.get_ylim()[1]))
        calibration.plot([0, 1], [0, 1], color=_COLOUR["soft"], lw=0.9)
        calibration.set_title("Is the confidence true?")
        calibration.set_xlabel("confidence of the likeliest name")
        calibration.set_ylabel("share of those that are right")
        calibration.set(xlim=(0, 1.01), ylim=(0, 1.01))
        for axes in (curve, calibration):
            _percent_axis(axes)
            _percent_axis(axes, "y")
        if handles:
            _models_below(figure, handles, labels)
        return _finish(figure, name, caption)


def by_structure(
    panels: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    titles: Mapping[str, str],
    name: str,
    caption: str,
) -> Plot:
    """One marker a model, one row a structure, one panel a figure.

    Args:
        panels: Shares by panel's title, structure and model.
        titles: Models in order.
        name: Title of the drawing.
        caption: How to read it.
    """
    structures = list(next(iter(panels.values())))
    with _drawing(1.0 + 0.5 * len(structures), ncols=len(panels), sharey=True) as (figure, grid):
        handles: dict[str, Any] = {}
        for axes, (title, of_structure) in zip(grid[0], panels.items(), strict=True):
            axes.set_title(title)
            for row, structure in enumerate(structures):
                for place, model in enumerate(titles):
                    value = of_structure[structure].get(model)
                    if value is None:
                        continue
                    offset = 0.62 * (place / max(1, len(titles) - 1) - 0.5)
                    (handles[model],) = axes.plot(
                        [value], [row + offset], _MARKERS[place % 8], ms=6,
                        color=model_colour(place), mec=_COLOUR["back"], mew=0.6,
                    )  # fmt: skip
            for row in range(1, len(structures)):
                axes.axhline(row - 0.5, color=_COLOUR["line"], lw=0.6)
            axes.grid(axis="y", visible=False)
            axes.set_xlim(right=1.01)
            _percent_axis(axes)
        grid[0][0].set_yticks(range(len(structures)), structures)
        grid[0][0].set_ylim(len(structures) - 0.5, -0.5)
        shown = [model for model in titles if model in handles]
        if shown:
            _models_below(figure, [handles[m] for m in shown], [titles[m] for m in shown])
        return _finish(figure, name, caption)
