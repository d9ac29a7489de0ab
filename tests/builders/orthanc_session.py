"""Runs in a network namespace of its own: an Orthanc server gets our objects and gives them back.

python orthanc_session.py FOLDER     sends FOLDER/*.dcm twice, by C-STORE and by STOW-RS; prints one JSON line

Orthanc's DICOM port listens on every interface and cannot be told otherwise, hence the namespace.
"""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pydicom
from dicomweb_client import DICOMwebClient
from pynetdicom import AE

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
HTTP, DICOM = 18042, 14242
ROOT = f"http://127.0.0.1:{HTTP}"


def start(folder):
    settings = {
        "Name": "test",
        "HttpPort": HTTP,
        "DicomPort": DICOM,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "UnknownSopClassAccepted": True,
        "SyncStorageArea": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [PLUGIN],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = open(folder / "orthanc.log", "w")  # noqa: SIM115
    server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{ROOT}/system", timeout=1).read()
            return server
        except OSError:
            time.sleep(0.2)
    server.kill()
    raise SystemExit((folder / "orthanc.log").read_text()[-2000:])


def send_by_c_store(objects):
    entity = AE(ae_title="TEST")
    for sop_class, syntax in sorted({(item.SOPClassUID, item.file_meta.TransferSyntaxUID) for item in objects}):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", DICOM, ae_title="ORTHANC")
    if not association.is_established:
        raise SystemExit("no association")
    statuses = [association.send_c_store(item).Status for item in objects]
    association.release()
    return statuses


def send_by_stow(client, objects):
    reply = client.store_instances(datasets=objects)
    return len(reply.get("FailedSOPSequence") or [])


def compare(client, objects):
    """Names of the objects that come back changed."""
    changed = []
    for item in objects:
        back = client.retrieve_instance(
            item.StudyInstanceUID,
            item.SeriesInstanceUID,
            item.SOPInstanceUID,
            media_types=(("application/dicom", "*"),),
        )
        same_syntax = back.file_meta.TransferSyntaxUID == item.file_meta.TransferSyntaxUID
        if back != item or not same_syntax:
            changed.append(f"{item.Modality} {item.SOPClassUID.name}")
    return changed


def clear():
    for study in json.loads(urllib.request.urlopen(f"{ROOT}/studies").read()):
        urllib.request.urlopen(urllib.request.Request(f"{ROOT}/studies/{study}", method="DELETE")).read()


def main(folder):
    objects = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    server = start(folder)
    try:
        client = DICOMwebClient(f"{ROOT}/dicom-web")
        result = {"count": len(objects), "c_store": send_by_c_store(objects)}
        result["changed_after_c_store"] = compare(client, objects)
        found = client.search_for_series(objects[0].StudyInstanceUID)
        result["modalities"] = sorted({item["00080060"]["Value"][0] for item in found})
        clear()
        result["stow_failures"] = send_by_stow(client, objects)
        result["changed_after_stow"] = compare(client, objects)
        print(json.dumps(result))
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
