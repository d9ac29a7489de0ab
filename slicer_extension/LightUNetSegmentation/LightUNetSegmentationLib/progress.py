"""The lines a child process writes: JSON objects with a schema number, between lines of other programs."""

from __future__ import annotations

import json

SCHEMA = 1
"""Of the progress lines this module understands."""

STAGES = {
    "read": ("Reading", 0.05),
    "open": ("Opening the model", 0.10),
    "prepare": ("Preparing", 0.05),
    "infer": ("Segmenting", 0.70),
    "restore": ("Restoring the grid", 0.04),
    "measure": ("Measuring", 0.03),
    "write": ("Writing", 0.03),
}
"""Title of a stage and its share of the bar, in the order in which they come."""


def parseLine(line):
    """Give the event of a line, a dict with the key ``"event"``, or None if the line is not one of ours."""
    line = line.strip()
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or "event" not in event or "schema" not in event:
        return None
    return event


def isKnownSchema(event):
    """Tell whether this module understands the event."""
    return event.get("schema") == SCHEMA


def overallFraction(event):
    """Give the share of the whole run that is done, 0 to 1, from a progress event."""
    stage, fraction = event.get("stage", ""), float(event.get("fraction") or 0.0)
    if stage not in STAGES:
        return min(max(fraction, 0.0), 1.0)
    done = 0.0
    for name, (_, share) in STAGES.items():
        if name == stage:
            return min(done + share * min(max(fraction, 0.0), 1.0), 1.0)
        done += share
    return done


def describe(event):
    """Give one line for people: the stage and the time left."""
    stage = event.get("stage", "")
    if stage == "train":
        parts = ["Training"]
        if event.get("epoch") is not None:
            parts.append(f"epoch {event['epoch']}")
        if event.get("loss") is not None:
            parts.append(f"loss {event['loss']:.3f}")
        if event.get("val_dice") is not None:
            parts.append(f"validation Dice {event['val_dice']:.3f}")
    else:
        parts = [STAGES.get(stage, (stage.capitalize(), 0))[0]]
    left = event.get("seconds_left")
    if left is not None and event.get("fraction", 0) < 1:
        parts.append(describeSeconds(left) + " left")
    return ", ".join(parts)


def describeSeconds(seconds):
    """Give a duration in words: ``"8 s"``, ``"2 min 5 s"``, ``"1 h 3 min"``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
