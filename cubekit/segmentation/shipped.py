"""The models that come with the package: trained on simulated scenes only, one for each archive."""

from __future__ import annotations

from pathlib import Path

from cubekit.errors import ModelError

SHIPPED = ("hyp3-20m", "opera-30m")
"""Their names: archive and spacing of the images they were made for."""

_FOLDER = Path(__file__).parent.parent / "data" / "models"


def find(model: str | Path) -> Path:
    """Find a model by the name of a shipped one, or by its path.

    Parameters
    ----------
    model
        One of `SHIPPED`, or a path.

    Returns
    -------
    pathlib.Path
        Of its file; whether that exists is for who reads it.
    """
    return _FOLDER / f"{model}.safetensors" if str(model) in SHIPPED else Path(model)


def choose(source: str, spacing: int) -> str:
    """Choose the shipped model for a cube.

    Parameters
    ----------
    source
        Archive, as the cube's attribute `source`.
    spacing
        Pixels of the cube, metres.

    Returns
    -------
    str
        One of `SHIPPED`.

    Raises
    ------
    ModelError
        When there is none for such a cube.

    Examples
    --------
    >>> choose("hyp3", 20)
    'hyp3-20m'
    """
    name = f"{source}-{spacing}m"
    if name not in SHIPPED:
        msg = (
            f"no model comes with cubekit for {source} at {spacing} m, only {' and '.join(SHIPPED)}; give the path of "
            'one that was trained on such images as model.path, or "otsu", which needs none'
        )
        raise ModelError(msg)
    return name
