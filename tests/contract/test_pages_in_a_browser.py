"""The HTML pages as a real browser shows them: every picture decoded, every link with its target, no error."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from lightunet_monai.cli import main
from tests.builders.bundle import tiny_bundle
from tests.builders.volume import make_nifti, make_voxels

BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
SIZE = (1000, 900)

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (scripts/setup_test_tools.sh)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra interop)")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}", f"window-size={SIZE[0]},{SIZE[1]}",
    ):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Two labelled volumes with their datalist, and a broken file."""
    folder = tmp_path_factory.mktemp("cases")
    for index in range(2):
        voxels = make_voxels((40, 36, 20), seed=index)
        make_nifti(folder / f"image_{index}.nii.gz", voxels)
        make_nifti(folder / f"label_{index}.nii.gz", (voxels > 40).astype(np.uint8))
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(2)]
    (folder / "list.json").write_text(json.dumps({"test": entries}))
    return folder


@pytest.fixture(scope="module")
def a_bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("model") / "bundle")


def _open(browser, page: Path) -> None:
    """Show a page and check what no page may have: errors, requests that leave the folder, a sideways scroll bar."""
    browser.get_log("performance")
    browser.get(page.as_uri())
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    asked = [
        message["params"]["request"]["url"]
        for message in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert asked, "the browser tells its requests"
    outside = [url for url in asked if not url.startswith(("data:", page.parent.as_uri()))]
    assert not outside
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def _widths_of_pictures(browser) -> list[int]:
    """Natural widths; 0 for one that could not be decoded. Pictures further down load when they are seen."""
    script = """
        const done = arguments[0], pictures = [...document.images];
        pictures.forEach(picture => picture.loading = "eager");
        Promise.all(pictures.map(picture => picture.decode().catch(() => 0)))
            .then(() => done(pictures.map(picture => picture.naturalWidth)));
    """
    return list(browser.execute_async_script(script))


def _check_headers(browser) -> None:
    """Who hears a cell of a table hears what its row is about, too."""
    script = """
        return [...document.querySelectorAll('tbody tr')].map(
            row => [...row.querySelectorAll('th[scope=row]')].map(header => header.textContent.trim()));
    """
    headers = browser.execute_script(script)
    assert headers
    assert all(len(row) == 1 and row[0] for row in headers)


def _check_narrow(browser) -> None:
    """On a telephone the page is as wide as the screen; tables that are wider move by themselves."""
    screen = {"width": 360, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.refresh()
    widths = browser.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths == [360, 360]


def _check_print(browser) -> None:
    """Browsers print no backgrounds: what is light on the screen has to be dark on paper."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    script = "return [...document.querySelectorAll('body, body *')].map(item => getComputedStyle(item).color)"
    colours = set(browser.execute_script(script))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert colours == {"rgb(0, 0, 0)"}


def test_an_evaluation_shows_its_pictures_curves_and_links(browser, cases, a_bundle, tmp_path):
    (tmp_path / "run").mkdir()
    lines = [json.dumps({"event": "progress", "epoch": epoch, "loss": 1 / epoch}) for epoch in (1, 2, 3)]
    (tmp_path / "run" / "train.log").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    words = ["--data", cases / "list.json", "--bundle", a_bundle, "--run", tmp_path / "run", "--thresholds", "0.3,0.6"]
    assert main(["evaluate", *map(str, words), "-o", str(out)]) == 0
    _open(browser, out / "evaluation.html")
    assert browser.title
    assert browser.find_element("css selector", "p.statement").is_displayed()
    widths = _widths_of_pictures(browser)
    assert len(widths) >= 5  # learning curve, free response, calibration, two cases
    assert min(widths) > 100
    targets = [urlsplit(link.get_attribute("href")).fragment for link in browser.find_elements("css selector", "nav a")]
    assert targets
    for target in targets:
        assert browser.find_element("id", target).is_displayed(), target
    _check_headers(browser)
    _check_narrow(browser)
    _check_print(browser)


def test_a_batch_shows_its_pictures_and_links_its_reports(browser, cases, a_bundle, tmp_path):
    studies, out = tmp_path / "studies", tmp_path / "out"
    studies.mkdir()
    for index in range(2):
        shutil.copy(cases / f"image_{index}.nii.gz", studies / f"<b>{index}.nii.gz")
    (studies / "broken.nii.gz").write_bytes(b"\x1f\x8b not a volume")
    words = [studies, "-o", out, "--bundle", a_bundle, "--engine", "torch", "--device", "cpu", "--threads", "1"]
    assert main(["batch", *map(str, words)]) == 1  # one case failed
    _open(browser, out / "summary.html")
    _check_headers(browser)
    assert len(browser.find_elements("css selector", "tr.done")) == 2
    failed = browser.find_element("css selector", "tr.failed")
    assert "broken" not in failed.text, "cases are named by their keys alone"
    assert "unreadable" in failed.text
    widths = _widths_of_pictures(browser)
    assert len(widths) == 2
    assert min(widths) > 100
    links = [
        Path(unquote(urlsplit(link.get_attribute("href")).path))
        for link in browser.find_elements("css selector", "tbody a")
    ]
    assert len(links) == 4  # two reports, two pictures
    assert all(link.is_file() for link in links)
