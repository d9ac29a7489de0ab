"""Errors of the module: a sentence, the next step, and for a child process its last lines."""

from __future__ import annotations


class ModuleError(Exception):
    """Something that the user has to know.

    Parameters
    ----------
    message : str
        What happened, one sentence.
    hint : str
        What to do next.
    log : sequence of str
        The last lines of a child process.
    kind : str
        Class name of the error in the child process, if there was one.
    """

    def __init__(self, message, hint="", log=(), kind=""):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = tuple(log)
        self.kind = kind

    def text(self):
        """Give message, hint and log as one text."""
        parts = [self.message, self.hint, "\n".join(self.log)]
        return "\n\n".join(part for part in parts if part)


def cannotWrite(path, error):
    """Give the `ModuleError` for a file or folder that the operating system did not let us write."""
    return ModuleError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Close programs that have it open, look at the free space and your rights, or choose another folder.",
    )


class EditedSegmentationError(ModuleError):
    """The segmentation was edited since the model made it, and would be overwritten."""
