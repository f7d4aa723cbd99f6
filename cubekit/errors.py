"""Everything cubekit raises on purpose.

A message says what was given, what is allowed and how to repair it. The command line prints it as one line.
"""

from __future__ import annotations

from collections.abc import Mapping


class CubekitError(Exception):
    """Base of every error that cubekit raises on purpose."""


class ConfigError(CubekitError):
    """A study, an option or an argument is not valid."""


class LakeError(CubekitError):
    """A lake, its outline or its area of interest is not usable."""


class SourceError(CubekitError):
    """An archive has nothing usable, or a product can't be read or understood."""


class NothingFound(SourceError):
    """An archive answers, and has no scene of what was asked for."""


class GridMismatch(CubekitError):
    """A scene or a cube lies on another grid than the one asked for."""


class CubeConflict(CubekitError):
    """What is to be written does not belong into this cube, or another writer holds it."""


class StorageError(CubekitError):
    """What a cube lies on refuses: it is full, may not be written, or gives back other bytes than were written."""


class ModelError(CubekitError):
    """A model can't be loaded, or was made for another preprocessing than the data at hand."""


class NoObservations(CubekitError):
    """Nothing was observed where a number was asked for."""


class MissingExtra(CubekitError):
    """An optional dependency is absent; the message names the extra that brings it."""


class SceneWarning(UserWarning):
    """Files of an archive were left out; the message lists them with their reasons.

    Parameters
    ----------
    message
        For people; may list a few only.
    left_out
        All reasons, by the names of what was left out.
    """

    def __init__(self, message: str, left_out: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.left_out = dict(left_out or {})
