"""The page of an evaluation: whole, without links that lead nowhere, and with every figure in it."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lightunet_monai.review import CasePicture, draw_comparison, evaluation_page
from lightunet_monai.review.comparison import PREDICTION_COLOUR, REFERENCE_COLOUR

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a page holds; fails at a tag that is not closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.pictures, self.cells, self.text = [], [], [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            assert values["alt"]
            self.pictures.append(values["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.cells.append(data)


def check_page(text):
    """Every link and picture of a page leads somewhere within it."""
    page = Page(text)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    for source in page.pictures:
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.verify()
    assert not re.search(r"(src|href)=.(https?:|/|[.][.])|<script", text)
    assert "RESEARCH USE ONLY" in page.text
    return page


GROUP = {"count": 4, "dice_mean": 0.6, "dice_median": 0.7, "volume_error_median": None}


def _content(**more):
    figure = {"title": "Dice", "unit": "", "value": 0.8125, "low": 0.71, "high": 0.9, "cases": 3}
    return {
        "cases": 3,
        "model": None,
        "threshold": None,
        "figures": {"dice": figure, "hd": {**figure, "title": "HD95", "unit": "mm", "value": None, "cases": 0}},
        "confusion_matrix": {
            "voxels": {
                "true_positives": 11111,
                "false_positives": 22,
                "false_negatives": 33,
                "true_negatives": 4444444,
            },
            "lesions": {"true_positives": 5, "false_positives": 6, "false_negatives": 7},
        },
        "by_diameter": [
            {"low": 0.0, "high": 5.0, "sensitivity": 0.25, "sensitivity_low": 0.1, "sensitivity_high": 0.5, **GROUP},
            {"low": 0.0, "high": None, "sensitivity": None, "sensitivity_low": None, "sensitivity_high": None, **GROUP},
        ],
        "by_density": None,
        "cases_without_density": 3,
        "free_response": None,
        "calibration": None,
        "learning_curves": None,
        "notes": ["a note with <brackets> & signs"],
        **more,
    }


def _png():
    mask = np.zeros((12, 14, 16), dtype=bool)
    mask[4:8, 5:9, 6:10] = True
    return draw_comparison(np.roll(mask, 2, 0), mask, np.diag([1.0, 1.0, 1.5, 1.0]))


def test_a_page_of_label_maps_holds_the_numbers_and_says_what_is_left_out():
    page = check_page(evaluation_page(_content()))
    for cell in ("0.812", "0.710 to 0.900", "11,111", "4,444,444", "0.250", "all lesions", "0-5 mm", "-"):
        assert cell in page.cells
    assert "a note with <brackets> & signs" in page.text
    assert "it needs probabilities" in page.text
    assert "no case has a tissue map" in page.text
    assert page.pictures == []


def test_a_page_of_a_model_holds_all_curves_and_cases():
    density = {
        "low": 0.1, "high": 0.2, "cases": 3, "lesions": 4, "sensitivity": 0.5, "sensitivity_low": 0.2,
        "sensitivity_high": 0.8, "false_positives_per_volume": 1.5, "false_positives_low": 0.5,
        "false_positives_high": 2.5, "dice_mean": 0.4,
    }  # fmt: skip
    point = {"sensitivity": 0.5, "false_positives_per_volume": 1.5, "by_density": [density]}
    groups = [{"low": 0.0, "high": None, "count": 4, "sensitivity": 0.5}]
    text = evaluation_page(
        _content(
            model={"version": "9.9", "weights_sha256": "0" * 64},
            threshold=0.3,
            by_density=[density],
            free_response=[{"threshold": t, "by_diameter": groups, **point} for t in (0.3, 0.5)],
            calibration={"error": 0.1, "curve": [{"voxels": 2, "said": 0.2, "observed": 0.4}]},
            learning_curves={"train_loss": [[1, 0.9], [2, 0.5], [3, float("nan")]], "dice of $x_{$": [[2, 0.4]]},
        ),
        best=[CasePicture("<b>good</b>", 0.9, _png())],
        worst=[CasePicture("bad", 0.1, _png())],
    )
    page = check_page(text)
    assert len(page.pictures) == 2 + 1 + 2 + 2  # FROC by diameter and density, calibration, learning, cases
    assert "best 1: \u2068<b>good</b>\u2069, Dice 0.900" in page.text  # isolates: the name may run from right to left
    assert "model 9.9" in page.text
    assert {"froc", "calibration", "learning", "confusion", "best", "worst"} <= set(page.ids)
    assert text == text.encode("ascii", "xmlcharrefreplace").decode() or "charset" in text


@pytest.mark.parametrize("with_volume", [True, False])
def test_a_comparison_shows_both_outlines_in_each_close_up(with_volume):
    reference = np.zeros((20, 22, 24), dtype=bool)
    reference[4:10, 5:11, 6:12] = True
    prediction = np.roll(reference, 2, (0, 1, 2))
    volume = np.full(reference.shape, -80, np.int16) if with_volume else None
    png = draw_comparison(prediction, reference, np.diag([0.8, 0.9, 1.5, 1.0]), volume)
    assert png == draw_comparison(prediction, reference, np.diag([0.8, 0.9, 1.5, 1.0]), volume)
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert set(picture.info) <= {"Description"}
    for colour in (REFERENCE_COLOUR, PREDICTION_COLOUR):
        value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        near = np.abs(pixels - value).max(axis=2) < 40
        third = near.shape[1] // 3
        assert all(near[near.shape[0] // 2 : -40, i * third : (i + 1) * third].any() for i in range(3))


def test_a_comparison_of_two_empty_masks_is_drawn_too():
    empty = np.zeros((8, 9, 10), dtype=bool)
    assert draw_comparison(empty, empty, np.eye(4)).startswith(b"\x89PNG")
