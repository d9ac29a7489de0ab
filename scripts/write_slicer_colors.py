"""Writes the colour table of the Slicer module from the label table of the bundle.

Slicer 5.10 and later read names, colours and codes of a colour table from CSV. With ``--check`` nothing is written,
and the exit code tells whether the file is in step.
"""

import csv
import io
import json
import sys
from pathlib import Path

from lightunet_monai.labels import metadata_of

ROOT = Path(__file__).resolve().parents[1]
METADATA = ROOT / "monai_bundle" / "configs" / "metadata.json"
TABLE = ROOT / "slicer_extension" / "LightUNetSegmentation" / "Resources" / "Colors" / "LightUNetSegmentation.csv"
CODES = {"category": "Category", "type": "Type", "region": "Region"}


def color_table(metadata: dict) -> str:
    """Give the CSV: one line a label of the bundle's default model, with background left out."""
    metadata = metadata_of(metadata)
    columns = ["LabelValue", "Name", "Color_R", "Color_G", "Color_B", "Color_A"]
    for title in CODES.values():
        columns += [f"{title}_CodingScheme", f"{title}_CodeValue", f"{title}_CodeMeaning"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    labels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    for value, name in labels.items():
        definition = metadata["label_definitions"].get(name)
        if definition is None:
            continue
        red, green, blue = definition["color"]
        row = {"LabelValue": value, "Name": definition["title"]}
        row |= {"Color_R": red, "Color_G": green, "Color_B": blue, "Color_A": 255}
        for key, title in CODES.items():
            code = definition.get(key)
            if code:
                row[f"{title}_CodingScheme"] = code["scheme"]
                row[f"{title}_CodeValue"] = code["value"]
                row[f"{title}_CodeMeaning"] = code["meaning"]
        writer.writerow(row)
    return stream.getvalue()


def main() -> int:
    """Write the file, or compare it."""
    text = color_table(json.loads(METADATA.read_text(encoding="utf-8")))
    if "--check" in sys.argv:
        return 0 if TABLE.read_text(encoding="utf-8") == text else 1
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
