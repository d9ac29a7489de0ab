"""What will not pass is not tried again, and is told before the model runs."""

import pytest

from lightunet_monai.batch.case import segment_case
from lightunet_monai.batch.causes import cause_of
from lightunet_monai.batch.scrub import FILE, secrets_of
from lightunet_monai.batch.settings import CaseSettings
from lightunet_monai.errors import OutputError
from lightunet_monai.inputs import discover_sources
from tests.builders.series import make_series


@pytest.mark.parametrize(
    ("reason", "may_pass"),
    [("needs-dicom", False), ("no-reference", False), ("no-position", False), ("other-grid", False), ("output", True)],
)
def test_what_no_format_can_express_is_not_tried_again(reason, may_pass):
    assert cause_of(OutputError("study: cannot be written.", reason=reason)).may_pass == may_pass


def test_a_series_that_dicom_results_cannot_refer_to_is_refused_before_the_model_is_opened(tmp_path):
    def change(index, dataset):
        dataset.SOPInstanceUID = "2.25.4711"

    (source,) = discover_sources(make_series(tmp_path / "Doe Jane", change=change).folder)
    with pytest.raises(OutputError) as caught:
        segment_case(source, tmp_path / "out", CaseSettings(formats=("nifti", "seg")), pytest.fail)
    cause = cause_of(caught.value, secrets_of(source))
    assert (cause.reason, cause.may_pass) == ("no-reference", False)
    assert cause.message == (
        f"{FILE}: has the SOP Instance UID of {FILE}, expected one of its own, to which DICOM results must refer."
    )
    assert not (tmp_path / "out").exists()
