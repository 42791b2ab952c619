"""Figures for papers, drawn by Matplotlib: mean curves with bands, or means with error bars, as SVG, PDF or PNG."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from convnn.errors import UserError, did_you_mean
from convnn.text import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

FORMATS = (".svg", ".pdf", ".png")
EXTRA = "pip install 'convnn[plot]'"
CONFIGURATION = "look at the matplotlibrc in this folder, $MPLCONFIGDIR or ~/.config/matplotlib"
# eight colors that people with any color vision tell apart: Okabe and Ito, Color Universal Design, 2008
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DASHES = ("-", "--", ":", "-.")  # one for each round of the colors
BAND_OPACITY = 0.2
MOST_INSIDE, WIDEST_INSIDE = 10, 0.6  # lines of a legend inside the axes, and its width as a share of the figure's
# of a legend, in multiples of its font size: the sample of a line, a letter on average, a line of text, the gap below
HANDLE, LETTER, LINE, LINE_GAP = 5.5, 0.65, 1.2, 0.5
POINTS = 72  # per inch
NARROWEST_TEXT = 12  # letters of a line of a legend


@dataclass(frozen=True)
class FigureLine:
    """A mean at each x, NaN for a gap, and the standard deviation, NaN where a single run has none."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    sd: Sequence[float]


@dataclass(frozen=True)
class FigureData:
    """What a figure shows. Its texts are raw: the figure neither escapes nor interprets them as formulas."""

    x_label: str
    y_label: str
    lines: Sequence[FigureLine]
    error_bars: bool = False  # bars at points; else bands around curves
    log_x: bool = False
    tick_labels: Sequence[str] = ()  # of x = 0, 1, 2, ... where x is no number
    notes: list[str] = field(default_factory=list)


def check_style(style: str) -> None:
    """Raise UserError where Matplotlib is missing, or has no such style and there is no such file."""
    library = _matplotlib().style.library
    if style not in ("default", *library) and not os.path.isfile(style):  # noqa: PTH113 for Path a name can be too long
        message = f"--style is {style!r}: it is no style of Matplotlib and no file{did_you_mean(style, library)}"
        raise UserError(message, key="style", value=style, fix=f"choose one of {', '.join(sorted(library))}")


def draw_figure(data: FigureData, suffix: str, *, about: str, style: str | None = None) -> tuple[bytes, list[str]]:
    """Return a figure in the format of a file's ending, the same bytes each time, and what Matplotlib warned of.

    Matplotlib's own configuration and style files decide its look; `about` is stored in its metadata. Raises UserError
    where Matplotlib is missing or cannot draw with the style.
    """
    matplotlib = _matplotlib()
    from cycler import cycler
    from matplotlib.figure import Figure

    cycle = cycler(linestyle=DASHES) * cycler(color=COLORS)
    ours = {"axes.prop_cycle": cycle, "pdf.fonttype": 42}
    # what a person configured stays
    ours = {
        name: value for name, value in ours.items() if matplotlib.rcParams[name] == matplotlib.rcParamsDefault[name]
    }
    target = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught, matplotlib.rc_context(ours):
        warnings.simplefilter("always")
        try:
            with matplotlib.style.context([] if style is None else _style_source(style)):
                if matplotlib.rcParams["svg.hashsalt"] is None:  # the style `default` sets every value
                    matplotlib.rcParams["svg.hashsalt"] = "convnn"
                figure = Figure(layout="constrained")
                _draw(figure.add_subplot(), data)
                figure.savefig(target, format=suffix[1:], metadata=_metadata(suffix, escaped(about)))
        except (ValueError, RuntimeError, OSError, MemoryError) as error:  # no LaTeX, an impossible size or font
            fix = f"choose another --style, or {CONFIGURATION}"
            raise UserError(f"Matplotlib cannot draw this: {error}", key="style", fix=fix) from error
    return target.getvalue(), list(dict.fromkeys(str(warning.message) for warning in caught))


def _style_source(style: str) -> str | Path:
    """Return the name of a style, or the path of a file: a text such as `paper.mplstyle` may be a package to import."""
    if style in ("default", *_matplotlib().style.library):
        return style
    return Path(style)


def _matplotlib() -> Any:
    """Return Matplotlib, without a window system.

    Raises UserError where it is not installed, or cannot read its configuration.
    """
    os.environ["MPLBACKEND"] = "agg"
    try:
        import matplotlib
        from matplotlib import style  # an attribute of the package from now on
    except ModuleNotFoundError as error:
        raise UserError(f"plots need Matplotlib: the module {error.name} is not installed", fix=EXTRA) from error
    except (ValueError, OSError) as error:
        raise UserError(f"Matplotlib cannot read its configuration: {error}", fix=CONFIGURATION) from error
    assert matplotlib.style is style
    return matplotlib


def _metadata(suffix: str, about: str) -> Mapping[str, str | None]:
    match suffix:
        case ".svg":
            return {"Description": about, "Date": None}
        case ".pdf":
            return {"Subject": about, "CreationDate": None}
    return {"Description": about}


def _draw(axes: Axes, data: FigureData) -> None:
    from matplotlib.ticker import MaxNLocator

    handles: list[Any] = []
    for line in data.lines:
        if data.error_bars:
            handles.append(axes.errorbar(line.x, line.mean, yerr=line.sd, marker="o", markersize=4, capsize=3))
            continue
        (curve,) = axes.plot(line.x, line.mean)
        low = [mean - sd for mean, sd in zip(line.mean, line.sd, strict=True)]
        high = [mean + sd for mean, sd in zip(line.mean, line.sd, strict=True)]
        axes.fill_between(line.x, low, high, color=curve.get_color(), alpha=BAND_OPACITY, linewidth=0)
        handles.append(curve)
    if data.log_x:
        axes.set_xscale("log")
    if data.tick_labels:
        axes.set_xticks(range(len(data.tick_labels)), list(data.tick_labels))
        _show_raw(axes.get_xticklabels(), [escaped(label) for label in data.tick_labels])
    elif not data.log_x and all(float(x).is_integer() for line in data.lines for x in line.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    texts = [axes.set_xlabel(""), axes.set_ylabel("")]
    _show_raw(texts, [escaped(data.x_label), escaped(data.y_label)])
    labels = [line.label for line in data.lines]
    if len(labels) > 1:
        _draw_legend(axes, handles, [escaped(label) for label in labels])


def _draw_legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Draw the legend; below the axes, in a higher figure, where it has many lines or long ones, which are broken."""
    from matplotlib import rcParams

    numbers = [str(number) for number in range(len(handles))]  # a label that begins with an underscore would be hidden
    figure = axes.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    longest = max(map(cell_len, labels))
    size = _font_inches(rcParams["legend.fontsize"])
    if len(handles) <= MOST_INSIDE and size * (HANDLE + LETTER * longest) <= WIDEST_INSIDE * width:
        _show_raw(axes.legend(handles, numbers).get_texts(), labels)
        return
    size = _font_inches("x-small")
    columns = max(1, int(width / (size * (HANDLE + LETTER * longest))))
    letters = max(NARROWEST_TEXT, int((width / columns / size - HANDLE) / LETTER))
    wrapped = [wrap(label, max(1, letters * len(label) // max(1, cell_len(label)))) or [""] for label in labels]
    rows, lines = math.ceil(len(handles) / columns), math.ceil(sum(map(len, wrapped)) / columns)
    figure.set_size_inches(width, height + size * (LINE * lines + LINE_GAP * rows))
    legend = figure.legend(handles, numbers, loc="outside lower center", ncols=columns, fontsize="x-small")
    _show_raw(legend.get_texts(), ["\n".join(lines) for lines in wrapped])


def _font_inches(size: str | float) -> float:
    """Return the size of a font in inches, of a size such as "x-small"."""
    from matplotlib.font_manager import FontProperties

    points: float = FontProperties(size=size).get_size_in_points()
    return points / POINTS


def _show_raw(texts: Sequence[Text], contents: Sequence[str]) -> None:
    """Set escaped texts that Matplotlib shows as they are: neither formulas nor, whatever the style, LaTeX."""
    for text, content in zip(texts, contents, strict=True):
        text.set_usetex(False)
        text.set_parse_math(False)
        text.set_text(content)
