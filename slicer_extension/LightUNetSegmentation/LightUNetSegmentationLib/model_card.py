"""The card of the model in use: what it is for, and what it is not for."""

from __future__ import annotations

import os


def cardText(model):
    """Give the card as text: what ``inspect`` says, and the bundle's own card where its file can be read.

    Parameters
    ----------
    model : dict
        The part ``model`` of ``inspect --json``.
    """
    labels = ", ".join(f"{label['value']} {label['title']}" for label in model.get("labels", []))
    lines = [
        f"{model.get('name', '')} {model.get('version', '')}",
        f"Modality: {model.get('modality', '')}",
        f"Labels: {labels}",
        model.get("intended_use", ""),
    ]
    path = os.path.join(model.get("path", ""), "docs", "README.md")
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines += ["", stream.read()]
    return "\n".join(lines)
