"""The package as a whole: what importing it costs, what it promises, and which room may import from which."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import cubekit
from cubekit import errors

PACKAGE = Path(cubekit.__file__).parent
HEAVY = ("torch", "numba", "rasterio", "matplotlib", "segmentation_models_pytorch", "distributed", "safetensors")

ROOMS = (
    *("errors", "files", "datasets", "config", "lakes", "passes", "sources", "cube"),
    *("preprocess", "segmentation", "series"),
    *(
        "plots",
        "areas",
        "results",
        "tables",
        "products",
        "report",
        "schedulers",
        "segmenting",
        "pipeline",
        "service",
        "demo",
        "cli",
    ),
)
"""From left to right: a room imports from its left only."""


@pytest.mark.parametrize(
    "statement",
    [
        "import cubekit; cubekit.Study; cubekit.lakes.catalogue(); cubekit.open_cubes; cubekit.publish",
        "import cubekit.cli",
    ],
)
def test_importing_is_light(statement: str) -> None:
    """A fresh interpreter loads nothing heavy, neither for the package, nor for a study, nor for what slices a cube."""
    code = f"import sys; {statement}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", cubekit.__all__)
def test_every_promised_name_is_there_and_described(name: str) -> None:
    """It resolves, is listed by dir(), and has a docstring of its own."""
    promised = getattr(cubekit, name)
    assert name in dir(cubekit)
    assert len((promised.__doc__ or "").strip()) > 20


def test_stub_and_package_agree() -> None:
    """What type checkers are told is what there is."""
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    imported = [alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    listed = next(
        ast.literal_eval(node.value)
        for node in stub.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert listed == sorted(listed)
    assert sorted(imported) == listed == sorted(cubekit.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading does not hide a misspelling."""
    with pytest.raises(AttributeError, match="opencube"):
        cubekit.opencube  # noqa: B018


def test_version_is_that_of_the_project() -> None:
    """One version, in pyproject.toml."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert cubekit.__version__ == project["version"]


def test_every_error_is_a_cubekit_error() -> None:
    """Who catches CubekitError catches all of them; a warning isn't one."""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert {kind for kind in classes if not issubclass(kind, errors.CubekitError)} == {errors.SceneWarning}
    assert all(kind.__doc__ for kind in classes)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, by its path, as Python understands it."""
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text(), path) for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    return Path(module).parts[0].removesuffix(".py")


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Rooms that a module imports from: anywhere in it, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            if parts[0] == "cubekit" and parts[1:] and parts[1] != "__version__":
                yield parts[1]


def test_every_room_has_its_place() -> None:
    """No module is forgotten by the order."""
    assert {room_of(module) for module in modules()} - {"__init__"} <= set(ROOMS)


def test_no_module_imports_from_its_right() -> None:
    """Also not in functions, nor for types only."""
    wrong = [
        f"{module} imports {room}"
        for module, tree in modules().items()
        for room in imports(module, tree)
        if module != "__init__.py" and room != room_of(module) and ROOMS.index(room) > ROOMS.index(room_of(module))
    ]
    assert not wrong


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Names of the functions and methods that are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func
            yield (name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")), node


def test_only_the_command_line_talks() -> None:
    """Through its consoles; nobody calls print()."""
    printing = {
        (room_of(module), ast.unparse(node.func))
        for module, tree in modules().items()
        for name, node in calls(tree)
        if name == "print"
    }
    assert printing == {("cli", "out.print"), ("cli", "err.print")}


def test_schedulers_are_the_users_choice() -> None:
    """Nobody names a scheduler but a run, for its user, and the reading of a pass or answer, a task already."""
    naming = {
        (module, name)
        for module, tree in modules().items()
        for name, node in calls(tree)
        if any(keyword.arg == "scheduler" for keyword in node.keywords)
    }
    assert naming == {
        ("schedulers.py", "set"),
        ("cube/read.py", "compute"),
        ("cli/study.py", "demo"),
        ("service/_api_cubes.py", "compute"),
    }


def test_asserts_are_for_type_checkers() -> None:
    """python -O must not change what a user is told: an assert says no more than that something isn't None."""
    asserted = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) and not ast.unparse(node.test).endswith(" is not None")
    ]
    assert not asserted


def test_only_cubekit_errors_are_raised() -> None:
    """What a user can mend is a CubekitError, which the command line shows as one line."""
    own = {(kind.__name__) for kind in vars(errors).values() if inspect.isclass(kind)}
    others = {
        (module, node.exc.func.id)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        if node.exc.func.id[0].isupper() and node.exc.func.id not in own
    }
    # pydantic gathers the ValueErrors of its validators; KeyError is what .sel raises; HTTPException is an answer.
    assert others - {(module, "HTTPException") for module in modules() if module.startswith("service/_api_")} == {
        ("config.py", "ValueError"),
        ("segmentation/recipe.py", "ValueError"),
        ("service/_api_queries.py", "ValueError"),
        ("cube/access.py", "KeyError"),
    }


def test_modules_are_short() -> None:
    """Split by meaning before 400 lines."""
    lengths = {module: len((PACKAGE / module).read_text().splitlines()) for module in modules()}
    assert not {module: length for module, length in lengths.items() if length > 400}
