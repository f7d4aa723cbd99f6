"""A study: what `cubekit run` is asked to do, read from TOML, checked, and written back with comments.

`Section` and `Document` are what any such file is made of; a recipe of training is one too.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cubekit.errors import ConfigError


class Section(BaseModel):
    """Named options: frozen, checked, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[str] = "a study"
    """What the document is, for messages."""
    sample: ClassVar[str] = "`cubekit init` writes one"
    """Where to find a valid one, for messages."""

    @classmethod
    def parse(cls, document: Mapping[str, Any], name: str = "the study") -> Self:
        """Check what was read from somewhere, by default from a study.

        Raises
        ------
        ConfigError
            When a key is unknown, missing or out of range; every fault is named.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            faults = "; ".join(_fault(fault, cls.kind, cls.sample) for fault in error.errors())
            msg = f"{name} is not valid: {faults}"
            raise ConfigError(msg) from None


class Document(Section):
    """A TOML file of sections."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read one from a TOML file.

        Raises
        ------
        ConfigError
            When it can't be read, is not TOML, or `parse` refuses it.
        """
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"{path} can't be read ({error.strerror}); give {cls.kind}, {cls.sample}"
            raise ConfigError(msg) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            msg = f"{path} is not TOML: {error}; {cls.sample}, to start from"
            raise ConfigError(msg) from error
        return cls.parse(document, str(path))

    def dump(self) -> str:
        """All of it as TOML, defaults filled in, each key with its description as a comment."""
        lines = [
            f"# {self.kind[0].upper()}{self.kind[1:]} of cubekit. Keys that are commented out are open or unset.",
            "",
        ]
        for section in type(self).model_fields:
            value = getattr(self, section)
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                title = f"[[{section}]]" if isinstance(value, tuple) else f"[{section}]"
                lines += [f"{title}  # {(type(part).__doc__ or '').strip()}", *_keys(part), ""]
        return "\n".join(lines)


class StudyOptions(Section):
    """What the study is called and where it writes."""

    name: str = Field(description="Name of the study, for titles.", min_length=1)
    out: Path = Field(Path("out"), description="Folder to write to; relative to where cubekit is started.")


class LakeOptions(Section):
    """One lake of the catalogue, or the lakes of a file."""

    id: str | None = Field(None, description="A lake of the catalogue (`cubekit lakes`), or one lake of the file.")
    geojson: Path | None = Field(None, description="A GeoJSON file of lakes; all of them unless id picks one.")
    front: float | None = Field(
        None,
        ge=0,
        lt=360,
        description="Where a glacier front meets this lake, degrees clockwise from north as seen from its middle.",
    )

    @model_validator(mode="after")
    def _one(self) -> LakeOptions:
        if self.id is None and self.geojson is None:
            msg = 'give id = "tsho_rolpa" or geojson = "my_lakes.geojson"'
            raise ValueError(msg)
        if self.front is not None and self.id is None:
            msg = f"front = {self.front:g} is of one lake, and all of {self.geojson} are asked for; give its id, too"
            raise ValueError(msg)
        return self


class SourceOptions(Section):
    """The archive, and what of it is used."""

    uri: str = Field(
        description='"folder:PATH", "opera", "hyp3:FOLDER", "stac:URL#COLLECTION", or "simulated:PATH?seed=0".',
        min_length=1,
    )
    tracks: tuple[Annotated[int, Field(ge=1, le=175)], ...] = Field((), description="Relative orbits; all when empty.")
    download: bool = Field(
        False, description="Fetch granules to disk, below the study's out, instead of reading them in place; for opera."
    )
    polarisations: tuple[Literal["vv", "vh"], ...] = Field(
        ("vv", "vh"), min_length=1, description="What the cubes hold, of what the products have."
    )
    strict_grid: bool | None = Field(
        None, description="Refuse scenes off the lattice; when left out, only where the source's grid is the lattice."
    )
    resampling: Literal["nearest", "bilinear"] = Field(
        "nearest", description="How scenes off the lattice are brought onto it."
    )

    @model_validator(mode="after")
    def _downloads(self) -> SourceOptions:
        if self.download and self.uri.partition("?")[0] != "opera":
            msg = f"download is for the source opera, not {self.uri!r}; leave it out"
            raise ValueError(msg)
        return self


class PeriodOptions(Section):
    """First and last day, both inclusive, UTC; open when left out."""

    start: date | None = Field(None, description="First day.")
    end: date | None = Field(None, description="Last day, inclusive.")

    @model_validator(mode="after")
    def _ordered(self) -> PeriodOptions:
        if self.start and self.end and self.end < self.start:
            msg = f"it ends ({self.end}) before it starts ({self.start}); swap them"
            raise ValueError(msg)
        return self


class PreprocessOptions(Section):
    """What is done before segmentation."""

    polarisation: Literal["vv", "vh"] = Field("vv", description="What is segmented: vv or vh.")
    filter: Literal["lee", "enhanced_lee", "none"] = Field(
        "lee", description="Speckle filter; products that the archive has filtered are never filtered again."
    )
    window: int = Field(7, ge=3, description="Side of the filter's window, pixels, odd.")
    looks: float | None = Field(
        None,
        gt=0,
        description="Equivalent number of looks; when left out that of the product, or measured on the lake.",
    )
    equalize: Literal["published", "robust"] = Field("published", description="Histogram equalisation, for networks.")

    @field_validator("window")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            msg = f"a window has a middle, so it must be odd, not {value}"
            raise ValueError(msg)
        return value


ExactEngineName = Literal[
    "torch-float32", "torch-bfloat16", "torch-cuda-float32", "torch-cuda-bfloat16",
    "openvino-float32", "openvino-bfloat16",
]  # fmt: skip
"""Engines by library, device and precision, as results name them."""

EngineName = Literal["auto", "torch", "openvino", ExactEngineName]
"""What may be asked for: an exact engine, the fastest of a library, or the fastest that any machine agrees with."""


class ModelOptions(Section):
    """What tells water from land."""

    path: str = Field(
        "auto",
        description='"auto": the U-Net that comes with cubekit for such images; a .safetensors model; or "otsu".',
        min_length=1,
    )
    engine: EngineName = Field(
        "auto",
        description='What runs a network: "auto" (float32, the same areas on every machine), "torch" or "openvino" '
        '(as fast as the machine can), or one of them exactly, e.g. "torch-float32".',
    )

    @field_validator("path", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value


class SeasonOptions(Section):
    """Which days of a year make its summer."""

    start: str = Field("07-01", description='First day, month-day; or "auto": the days of open water, as observed.')
    end: str = Field("09-30", description='Last day, month-day, inclusive; "auto" with start.')
    min_observed: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Passes count that saw this share of the most that their track ever sees of the lake zone.",
    )
    looks: int = Field(
        4, ge=1, description="Passes whose expected maximum is the fair maximum; seasons with fewer have none."
    )

    @property
    def days(self) -> tuple[str, str] | Literal["auto"]:
        """First and last day, or ``auto``."""
        return "auto" if self.start == "auto" else (self.start, self.end)

    @field_validator("start", "end")
    @classmethod
    def _month_day(cls, value: str) -> str:
        if value == "auto":
            return value
        try:
            date.fromisoformat(f"2001-{value}")
        except ValueError:
            msg = f'{value!r} is not a day of the year; write it as 07-01, or "auto"'
            raise ValueError(msg) from None
        return value

    @model_validator(mode="after")
    def _both(self) -> SeasonOptions:
        if (self.start == "auto") != (self.end == "auto"):
            msg = f'only one of start ({self.start}) and end ({self.end}) is "auto"; give "auto" or a day for both'
            raise ValueError(msg)
        return self


class OutputOptions(Section):
    """What is written beside the tables (CSV), the outlines (GeoJSON) and the figures."""

    formats: tuple[Literal["parquet", "netcdf", "geopackage", "masks", "animation"], ...] = Field(
        (),
        description=(
            '"parquet", "netcdf" and "geopackage", each with its extra; "masks", a COG a pass with STAC items; '
            '"animation", a GIF.'
        ),
    )
    frames: int = Field(60, ge=2, description="Most passes that an animation shows, evenly chosen.")


class ComputeOptions(Section):
    """Where the work is done."""

    scheduler: str = Field("threads", description='"threads", "processes", or a Dask address like tcp://host:8786.')
    workers: int | None = Field(None, ge=1, description="Threads or processes; when left out, one a core.")
    memory: str | None = Field(None, description='Memory of each process, e.g. "4GiB"; for "processes".')

    @field_validator("memory")
    @classmethod
    def _bytes(cls, value: str | None) -> str | None:
        from dask.utils import parse_bytes

        if value is not None:
            try:
                parse_bytes(value)
            except ValueError:
                msg = f'{value!r} is not an amount of memory; write it as "4GiB"'
                raise ValueError(msg) from None
        return value

    @field_validator("scheduler")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in {"threads", "processes"} and "://" not in value:
            msg = f'{value!r} is neither "threads" nor "processes" nor an address like tcp://host:8786'
            raise ValueError(msg)
        return value


class ServiceOptions(Section):
    """The service: `cubekit watch`, `infer` and `serve`. Secrets are not here: they come from the environment."""

    interval_minutes: float = Field(60, gt=0, description="Between two looks into the archive, minutes.")
    overlap_days: float = Field(5, ge=0, description="A look asks for what was processed since the last, less this.")
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that the API listens on.")
    webhooks: tuple[str, ...] = Field((), description="Addresses that are told of alerts, https or http.")
    webhook_secret_env: str = Field(
        "CUBEKIT_WEBHOOK_SECRET",
        min_length=1,
        description="Variable with the secret that webhooks are signed with; with _FILE added, of a file that has it.",
    )
    cap_sender: str = Field(
        "", description="Who sends the warnings (CAP 1.2), e.g. lakes@example.org; without it there are none."
    )
    cap_status: Literal["Actual", "Exercise", "Test"] = Field(
        "Test", description='Status of the warnings: "Actual" only where somebody is responsible for them.'
    )
    retry_minutes: float = Field(30, gt=0, description="Before what failed is tried again; each later wait is twice.")
    max_attempts: int = Field(
        8, ge=1, description="After which a job or a webhook has failed, and a granule is tried once a week only."
    )

    @field_validator("webhooks")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            parts = urlsplit(one)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
                msg = "a webhook is not an address like https://example.org/lakes, without user and password"
                raise ValueError(msg)
        if len(set(value)) < len(value):
            msg = "a webhook is given twice; give each once"
            raise ValueError(msg)
        return value

    @field_validator("cap_sender")
    @classmethod
    def _word(cls, value: str) -> str:
        if set(value) & set(" ,<&") or not value.isprintable():
            msg = f"a sender has no spaces, commas, < or &, which {value!r} has; give e.g. lakes@example.org"
            raise ValueError(msg)
        return value


class Study(Document):
    """A whole study.

    Raises
    ------
    ConfigError
        From `load` and `parse`, when a key is unknown, missing or out of range; every fault is named.

    Examples
    --------
    >>> study = Study.parse({"study": {"name": "one"}, "lake": [{"id": "gokyo"}], "source": {"uri": "folder:scenes"}})
    >>> study.season.end, study.model.path
    ('09-30', 'auto')
    """

    study: StudyOptions
    lake: tuple[LakeOptions, ...] = Field(min_length=1)
    source: SourceOptions
    period: PeriodOptions = PeriodOptions()
    preprocess: PreprocessOptions = PreprocessOptions()
    model: ModelOptions = ModelOptions()
    season: SeasonOptions = SeasonOptions()
    output: OutputOptions = OutputOptions()
    compute: ComputeOptions = ComputeOptions()
    service: ServiceOptions = ServiceOptions()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that can change a number: every section but `study`, `output`, `compute`, `service`."""
        document = self.model_dump(mode="json", exclude={"study", "output", "compute", "service"})
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _keys(section: Section) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        lines.append(f"# {field.description}")
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    # A TOML basic string has the escapes of a JSON string.
    return json.dumps(str(value)) if isinstance(value, str | Path) else repr(value)


def _fault(fault: Mapping[str, Any], kind: str, sample: str) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where} is not a key of {kind}; {sample} with all of them"
    text = str(fault["msg"]).removeprefix("Value error, ")
    given = "" if fault["type"] in {"missing", "value_error"} else f" (given: {fault['input']!r})"
    return f"{where}: {text[0].lower()}{text[1:]}{given}"
