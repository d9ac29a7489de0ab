"""Label maps with several structures: overlap of each, and which voxels are taken for which."""

import csv
import io
import json
import math

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from lightunet_monai.evaluation import StructureCase, StructureEvaluation, count_structures
from lightunet_monai.evaluation.structures import structures_csv
from lightunet_monai.labels import LabelTable

LABELS = LabelTable.shipped("tissues")
TUMOR, DENSE, FAT, SKIN = 1, 2, 3, 4


def _maps(seed, share=0.2):
    """A reference, and a prediction in which a share of the voxels was drawn anew."""
    random = np.random.default_rng(seed)
    reference = random.integers(0, 5, (37, 9, 8)).astype(np.uint8)
    redrawn = random.integers(0, 5, reference.shape).astype(np.uint8)
    return np.where(random.random(reference.shape) < share, redrawn, reference), reference


def _case(name, prediction, reference):
    return StructureCase(name, count_structures(prediction, reference, LABELS), 0.002)


def test_every_pair_of_structures_is_counted():
    prediction, reference = _maps(1)
    counts = count_structures(prediction, reference, LABELS)
    for row in range(5):
        for column in range(5):
            assert counts[row, column] == ((reference == row) & (prediction == column)).sum()


def test_values_need_not_be_consecutive():
    table = LabelTable((LABELS[TUMOR], LABELS[SKIN]))
    prediction, reference = np.array([[[0, 1, 4, 4]]], np.uint8), np.array([[[0, 4, 4, 1]]], np.uint8)
    assert count_structures(prediction, reference, table).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


def test_dice_is_that_of_monai():
    pairs = [_maps(seed, share) for seed, share in ((1, 0.1), (2, 0.4))]
    evaluation = StructureEvaluation(LABELS, tuple(_case(str(n), *pair) for n, pair in enumerate(pairs)))
    metric = DiceMetric(include_background=False, num_classes=5)
    for prediction, reference in pairs:
        metric(torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None])
    expected = metric.aggregate("mean_batch").tolist()
    assert [figures["dice"].value for figures in evaluation.figures()] == pytest.approx(expected, abs=1e-6)


def test_a_structure_that_a_case_lacks_does_not_count_in_its_mean():
    prediction, reference = _maps(3)
    without = [np.where(values == SKIN, FAT, values).astype(np.uint8) for values in (prediction, reference)]
    evaluation = StructureEvaluation(LABELS, (_case("with", prediction, reference), _case("without", *without)))
    skin = evaluation.figures()[SKIN - 1]
    assert skin["dice"].cases == 1
    assert skin["dice"].value == evaluation.cases[0].score(SKIN).dice
    assert math.isnan(evaluation.cases[1].score(SKIN).dice)
    rows = list(csv.DictReader(io.StringIO(structures_csv(evaluation))))
    assert len(rows) == 2 * 4
    assert (rows[-1]["case"], rows[-1]["structure"], rows[-1]["dice"]) == ("without", "skin", "")
    assert float(rows[1]["reference_ml"]) == pytest.approx((reference == DENSE).sum() * 0.002, rel=1e-5)


def test_the_density_is_compared_case_by_case():
    reference = np.full((10, 1, 1), FAT, np.uint8)
    reference[:2], reference[2] = DENSE, TUMOR
    prediction = reference.copy()
    prediction[:5] = DENSE  # 5 of 10; the reference has 2 of 10
    evaluation = StructureEvaluation(LABELS, (_case("one", prediction, reference), _case("two", reference, reference)))
    assert evaluation.densities() == [(0.5, 0.2), (0.2, 0.2)]
    assert evaluation.density_error().value == pytest.approx(0.15)
    nothing = np.zeros_like(reference)
    assert StructureEvaluation(LABELS, (_case("none", nothing, reference),)).density_error().cases == 0


def test_json_and_text_hold_the_same_and_nothing_that_json_lacks():
    prediction, reference = _maps(4)
    reference[reference == SKIN] = 0
    evaluation = StructureEvaluation(LABELS, (_case("one", prediction, reference),))
    content = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert [row["name"] for row in content["structures"]] == ["tumor", "fibroglandular", "adipose", "skin"]
    assert content["structures"][3]["figures"]["recall"]["value"] is None
    assert np.sum(content["confusion_matrix"]["voxels"]) == reference.size
    dice = content["structures"][1]["figures"]["dice"]["value"]
    assert f"| fibroglandular | {dice:.3f} |" in evaluation.to_text()
    assert "| skin | 0.000 | 0.000 to 0.000 | 0.000 | 0.000 | - | - | 1 |" in evaluation.to_text()
    assert "Breast density: off by" in evaluation.to_text()
