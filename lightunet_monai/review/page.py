"""An evaluation as one HTML page that needs no other file: figures, curves, and the best and worst cases."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .charts import Points, draw_chart
from .drawing import ALERT, FAINT, INK, PAPER, STATEMENT

_STYLE = f"""
body {{ background: {PAPER}; color: {INK}; font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }} h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .6rem; }}
p.statement {{ color: {ALERT}; font-weight: bold; margin: .2rem 0 1rem; }}
p.note, figcaption, nav {{ color: {FAINT}; font-size: .9rem; }}
nav a {{ color: {INK}; margin-right: 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid #2a2e33; padding: .25rem .6rem; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }} th {{ font-weight: normal; }} thead th {{ color: {FAINT}; }}
figure {{ margin: 1rem 0; overflow-wrap: anywhere; }} img {{ max-width: 100%; }}
section {{ overflow-x: auto; }}
@media print {{
  body, h1, h2, td, th, thead th, nav, nav a, p.note, p.statement, figcaption {{ color: black; }}
  body {{ background: white; }}
  h2 {{ break-after: avoid; }} figure {{ break-inside: avoid; }} section {{ overflow-x: visible; }}
}}
"""


@dataclass(frozen=True)
class CasePicture:
    """One of the best or worst cases.

    Parameters
    ----------
    name : str
    dice : float
    png : bytes
        As `draw_comparison` gives it.
    """

    name: str
    dice: float
    png: bytes


def evaluation_page(
    content: Mapping[str, Any], *, best: Sequence[CasePicture] = (), worst: Sequence[CasePicture] = ()
) -> str:
    """Make the page.

    Parameters
    ----------
    content : mapping
        What ``evaluation.json`` holds; see `docs/evaluation.md`.
    best, worst : sequence of CasePicture
        By Dice.

    Returns
    -------
    str
        HTML with all pictures embedded; no script and no link that leaves the page.
    """
    sections: list[tuple[str, str, str]] = [
        ("figures", "Figures", _figures(content["figures"])),
        ("confusion", "Confusion matrix", _confusion(content["confusion_matrix"])),
        ("structures", "Structures", _structures(content.get("structures"))),
        ("diameter", "Lesions by diameter", _by_diameter(content["by_diameter"])),
        ("density", "By breast density", _by_density(content)),
        ("froc", "Free-response curve", _free_response(content["free_response"])),
        ("calibration", "Calibration curve", _calibration(content["calibration"])),
        ("learning", "Learning curves", _learning(content["learning_curves"])),
        ("best", "Best cases", _pictures(best, "best")),
        ("worst", "Worst cases", _pictures(worst, "worst")),
        ("notes", "Notes", "".join(_note(note) for note in content["notes"])),
    ]
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title, _ in shown)
    parts = "".join(f'<section id="{key}"><h2>{title}</h2>{body}</section>\n' for key, title, body in shown)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Evaluation</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Evaluation</h1>\n"
        f'<p class="statement">{STATEMENT}</p>\n{_note(_headline(content))}'
        f"<nav>{links}</nav>\n{parts}</body>\n</html>\n"
    )


def _headline(content: Mapping[str, Any]) -> str:
    model = content.get("model")
    who = f"model {model['version']}, weights {model['weights_sha256'][:12]}" if model else "label maps from files"
    threshold = content.get("threshold")
    return f"{content['cases']} cases, {who}" + (f", threshold {threshold:g}" if threshold is not None else "")


def _figures(figures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            figure["title"] + (f" [{figure['unit']}]" if figure["unit"] else ""),
            _number(figure["value"]),
            _range(figure["low"], figure["high"]),
            str(figure["cases"]),
        )
        for figure in figures.values()
    ]
    return _table(("figure", "value", "95 % interval", "cases"), rows)


def _confusion(matrix: Mapping[str, Mapping[str, int]]) -> str:
    tables = []
    for kind in ("voxels", "lesions"):
        counts = matrix[kind]
        rows = [
            ("in the reference", _count(counts["true_positives"]), _count(counts["false_negatives"])),
            ("not in the reference", _count(counts["false_positives"]), _count(counts.get("true_negatives"))),
        ]
        tables.append(_table((kind, "in the prediction", "not in the prediction"), rows))
    return "<br>".join(tables)


def _structures(structures: Mapping[str, Any] | None) -> str:
    """Tissues beside the lesions, where label maps hold both."""
    if not structures:
        return ""
    rows = []
    for structure in structures["structures"]:
        figures = structure["figures"]
        dice = figures["dice"]
        others = [_number(figures[name]["value"]) for name in ("iou", "precision", "recall", "volume_error")]
        cells = [structure["title"], _number(dice["value"]), _range(dice["low"], dice["high"]), *others]
        rows.append([*cells, str(dice["cases"])])
    titles = ("structure", "Dice", "95 % interval", "IoU", "precision", "recall", "volume error", "cases")
    error = structures["breast_density_error"]
    density = f"Breast density: off by {_number(error['value'])} on average ({_range(error['low'], error['high'])})."
    matrix = structures["confusion_matrix"]
    counts = [
        (f"{name} in the reference", *map(_count, voxels))
        for name, voxels in zip(matrix["names"], matrix["voxels"], strict=True)
    ]
    heads = ("voxels", *(f"{name} in the prediction" for name in matrix["names"]))
    return _table(titles, rows) + (_note(density) if error["cases"] else "") + "<br>" + _table(heads, counts)


def _by_diameter(groups: Iterable[Mapping[str, Any]]) -> str:
    rows = []
    for group in groups:
        rows.append(
            (
                _diameter_title(group),
                str(group["count"]),
                _number(group["sensitivity"]),
                _range(group["sensitivity_low"], group["sensitivity_high"]),
                _number(group["dice_mean"]),
                _number(group["dice_median"]),
                _number(group["volume_error_median"]),
            )
        )
    titles = ("diameter", "lesions", "sensitivity", "95 % interval", "Dice, mean", "median", "volume error, median")
    return _table(titles, rows)


def _by_density(content: Mapping[str, Any]) -> str:
    if not content["by_density"]:
        return _note("Left out: no case has a tissue map or the parameters of the simulator beside its reference.")
    rows = [
        (
            f"{100 * group['low']:.0f}-{100 * group['high']:.0f} %",
            str(group["cases"]),
            str(group["lesions"]),
            _number(group["sensitivity"]),
            _range(group["sensitivity_low"], group["sensitivity_high"]),
            _number(group["false_positives_per_volume"]),
            _range(group["false_positives_low"], group["false_positives_high"]),
        )
        for group in content["by_density"]
    ]
    titles = (
        "dense tissue",
        "cases",
        "lesions",
        "sensitivity",
        "95 % interval",
        "false positives per volume",
        "95 % interval",
    )
    left_out = content["cases_without_density"]
    more = _note(f"{left_out} cases without a density are not in this table.") if left_out else ""
    return _table(titles, rows) + more


def _free_response(points: Sequence[Mapping[str, Any]] | None) -> str:
    if not points:
        return _note("Left out: it needs probabilities (--data with --thresholds).")
    by_diameter = _curves(points, "by_diameter", _diameter_title, lambda point, _: point["false_positives_per_volume"])
    most = max(point["false_positives_per_volume"] or 0.0 for point in points)
    pictures = _chart(
        by_diameter, "false positives per volume", "sensitivity", "FROC by diameter", (0.0, 1.05 * most or 1.0)
    )
    if points[0]["by_density"]:
        by_density = _curves(
            points,
            "by_density",
            lambda group: f"{100 * group['low']:.0f}-{100 * group['high']:.0f} % dense",
            lambda _, group: group["false_positives_per_volume"],
        )
        pictures += _chart(by_density, "false positives per volume", "sensitivity", "FROC by density", None)
    rows = [
        (f"{point['threshold']:g}", _number(point["sensitivity"]), _number(point["false_positives_per_volume"]))
        for point in points
    ]
    return pictures + _table(("threshold", "sensitivity, all lesions", "false positives per volume"), rows)


def _curves(
    points: Sequence[Mapping[str, Any]],
    key: str,
    title: Callable[[Mapping[str, Any]], str],
    place: Callable[[Mapping[str, Any], Mapping[str, Any]], float],
) -> dict[str, Points]:
    """Join the points of each group of lesions, from the highest threshold on; a group without lesions has none."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in sorted(points, key=lambda point: -float(point["threshold"])):
        for group in point[key]:
            if group["sensitivity"] is not None:
                curves.setdefault(title(group), []).append((place(point, group), group["sensitivity"]))
    return dict(curves)


def _diameter_title(group: Mapping[str, Any]) -> str:
    if group["high"] is None:
        return f"{group['low']:g} mm and more" if group["low"] else "all lesions"
    return f"{group['low']:g}-{group['high']:g} mm"


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if not calibration:
        return _note("Left out: it needs probabilities (--data with -o FOLDER).")
    curve = [
        (group["said"], group["observed"])
        for group in calibration["curve"]
        if group["voxels"] and group["said"] is not None
    ]
    picture = _chart(
        {"model": curve},
        "probability that was given",
        "share of voxels that is lesion",
        "calibration",
        (0.0, 1.0),
        True,
    )
    return picture + _note(
        f"Calibration error of the voxels with a probability of 0.1 and more: {_number(calibration['error'])}."
    )


def _learning(curves: Mapping[str, Sequence[Sequence[float | None]]] | None) -> str:
    charts = []
    for name, points in (curves or {}).items():
        pairs = [(float(step or 0), float(value)) for step, value in points if value is not None]
        charts.append(_chart({name: pairs}, "step (iteration or epoch)", name, f"learning curve of {name}", None))
    return "".join(charts)


def _chart(
    curves: Mapping[str, Points],
    x_title: str,
    y_title: str,
    caption: str,
    x_range: tuple[float, float] | None,
    with_diagonal: bool = False,
) -> str:
    is_share = x_range is not None or y_title == "sensitivity"
    png = draw_chart(
        curves,
        x_title,
        y_title,
        x_range=x_range,
        y_range=(0.0, 1.02) if is_share else None,
        with_diagonal=with_diagonal,
    )
    return _figure(png, caption)


def _pictures(pictures: Sequence[CasePicture], kind: str) -> str:
    # Isolated, so that a name that runs from right to left does not turn what stands beside it.
    return "".join(
        _figure(picture.png, f"{kind} {number}: \u2068{picture.name}\u2069, Dice {picture.dice:.3f}")
        for number, picture in enumerate(pictures, 1)
    )


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    text = escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>\n'


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(_row(*row) for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>\n"


def _row(name: str, *cells: str) -> str:
    values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}</th>{values}</tr>\n'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>\n'


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
