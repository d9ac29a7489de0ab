"""The label table of a bundle that somebody edited: what cannot be used is told, with what it needs."""

import copy

import pytest

from lightunet_monai.errors import BundleError
from lightunet_monai.inference.bundle_files import find_bundle, read_metadata
from lightunet_monai.labels import LabelTable, metadata_of

METADATA = read_metadata(find_bundle(None))


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("color", None, "the label tumor cannot be used: TypeError"),
        ("color", [1, 2], "the label tumor cannot be used: ValueError"),
        ("category", {"scheme": "SCT", "value": "1"}, "the label tumor cannot be used: TypeError.*meaning"),
    ],
)
def test_a_label_with_a_part_that_cannot_be_used_is_refused_by_name(key, value, word):
    metadata = copy.deepcopy(METADATA)
    metadata["label_definitions"]["tumor"][key] = value
    with pytest.raises(BundleError, match=word):
        LabelTable.from_metadata(metadata)


@pytest.mark.parametrize("key", ["title", "color", "category", "type"])
def test_a_label_that_lacks_a_part_is_refused_by_name(key):
    metadata = copy.deepcopy(METADATA)
    del metadata["label_definitions"]["tumor"][key]
    with pytest.raises(BundleError, match=f"the label tumor cannot be used: KeyError '{key}'") as caught:
        LabelTable.from_metadata(metadata)
    assert key in caught.value.hint


@pytest.mark.parametrize("channels", [["background", "tumor"], {"0": "background", "one": "tumor"}])
def test_channels_without_numbers_are_refused(channels):
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    with pytest.raises(BundleError, match="channel_def cannot be used"):
        LabelTable.from_metadata(metadata)


@pytest.mark.parametrize("value", ["300", "-1"])
def test_a_label_beyond_eight_bits_is_refused(value):
    metadata = copy.deepcopy(METADATA)
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "background", value: "tumor"}
    with pytest.raises(BundleError, match=rf"channel_def has {value}, expected 0 to 255"):
        LabelTable.from_metadata(metadata)


def test_definitions_in_a_list_are_refused():
    with pytest.raises(BundleError, match="label_definitions: found list, expected an object"):
        LabelTable.from_metadata({**METADATA, "label_definitions": ["tumor"]})


def test_a_tissue_in_the_place_of_the_lesion_is_refused_by_name():
    metadata = copy.deepcopy(metadata_of(METADATA, "tissues"))
    channels = {"0": "background", "1": "fibroglandular", "2": "tumor", "3": "adipose", "4": "skin"}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = channels
    with pytest.raises(BundleError, match=r"has fibroglandular as 1, expected a lesion; found as lesions: \[2\]"):
        LabelTable.from_metadata(metadata)
