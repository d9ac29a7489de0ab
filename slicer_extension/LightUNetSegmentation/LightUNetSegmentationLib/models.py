"""The models the user can choose: the shipped ones and those that were fine-tuned here, with the way back."""

from __future__ import annotations

import json
import os

from .errors import ModuleError, cannotWrite
from .parameters import SHIPPED, SHIPPED_MODELS

REGISTRY = "models.json"


class ModelList:
    """Models of one folder, in the order in which they were made, and which ones were in use.

    Parameters
    ----------
    folder : str
        Where ``models.json`` lies; created with the first model.
    """

    def __init__(self, folder):
        self.folder = folder
        self.models, self.used = [], [SHIPPED]
        path = os.path.join(folder, REGISTRY)
        if os.path.exists(path):
            try:
                with open(path, encoding="utf-8") as stream:
                    content = json.load(stream)
                self.models, self.used = content["models"], content["used"] or [SHIPPED]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ModuleError(f"{path} is damaged.", "Delete it; the models themselves stay.") from error

    @property
    def current(self):
        """The model in use, as `modelOption` takes it; ``""`` also if it was deleted meanwhile."""
        return self.used[-1] if self.used[-1] in SHIPPED_MODELS or os.path.isdir(self.used[-1]) else SHIPPED

    def choices(self):
        """Give (model, title) of each model that is there, the shipped ones first."""
        titles = list(SHIPPED_MODELS.items())
        for model in self.models:
            if os.path.isdir(model["folder"]):
                dice = model.get("val_dice")
                titles.append((model["folder"], model["title"] + ("" if dice is None else f", Dice {dice:.3f}")))
        return titles

    def add(self, folder, title, valDice=None):
        """Add a model; it is not chosen by that.

        Raises
        ------
        ModuleError
            If the list cannot be written; it stays as it was then, as with `choose` and `rollBack`.
        """
        others = [model for model in self.models if model["folder"] != folder]
        self._save([*others, {"folder": folder, "title": title, "val_dice": valDice}], self.used)

    def choose(self, chosen):
        """Use a model from now on.

        Raises
        ------
        ModuleError
            If it is not one of the choices, or the list cannot be written.
        """
        if chosen not in [model for model, _ in self.choices()]:
            raise ModuleError("This model is no longer there.", "Choose another one.")
        if chosen != self.current:
            self._save(self.models, [*self.used, chosen])

    @property
    def canRollBack(self):
        """True if another model was in use before."""
        return len(self.used) > 1

    def rollBack(self):
        """Use the model that was in use before, and give it.

        Raises
        ------
        ModuleError
            If the list cannot be written.
        """
        if self.canRollBack:
            self._save(self.models, self.used[:-1])
        return self.current

    def _save(self, models, used):
        """Write the list, and only then go by it."""
        path = os.path.join(self.folder, REGISTRY)
        try:
            os.makedirs(self.folder, exist_ok=True)
            with open(path + ".part", "w", encoding="utf-8", newline="\n") as stream:
                json.dump({"models": models, "used": used}, stream, indent=1)
            os.replace(path + ".part", path)
        except OSError as error:
            raise cannotWrite(path, error) from error
        self.models, self.used = models, used


def overlap(first, second, volume):
    """Give the Dice coefficient of the lesions of two segmentations on the grid of a volume, 0 to 1.

    Two empty segmentations agree: 1.
    """
    import slicer

    from .edits import lesionSegmentIds

    both = sizes = 0
    for name in sorted({*lesionSegmentIds(first), *lesionSegmentIds(second)}):
        masks = []
        for segmentation in (first, second):
            inside = segmentation.GetSegmentation().GetSegment(name) is not None
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, name, volume) if inside else None
            masks.append(None if mask is None else mask > 0)
        sizes += sum(int(mask.sum()) for mask in masks if mask is not None)
        if masks[0] is not None and masks[1] is not None:
            both += int((masks[0] & masks[1]).sum())
    return 1.0 if sizes == 0 else 2 * both / sizes
