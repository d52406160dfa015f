"""The house's rule about who may import whom, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("imaging", "catalog", "recognition", "training", "tracking", "pipelines", "service")

# What a room may import of the house, and what it must never import from outside.
MAY_IMPORT = {
    "imaging": set(),
    "catalog": {"imaging"},
    "recognition": {"imaging"},
    "training": {"imaging", "catalog.photo_store", "recognition"},
    "tracking": {"recognition"},
    "pipelines": {"imaging", "catalog", "recognition", "training", "tracking"},
    "service": {"imaging", "recognition", "tracking"},
}
NEVER = {
    "imaging": {"torch", "polars", "mlflow", "dvc", "fastapi"},
    "catalog": {"torch", "mlflow", "fastapi", "dvc"},
    "recognition": {"mlflow", "fastapi", "dvc", "polars", "pydantic"},
    "training": {"mlflow", "fastapi", "dvc", "polars"},
    "tracking": {"fastapi"},
    "pipelines": {"fastapi"},
    "service": {"dvc"},
}
BARE_NODE = {"catalog/__init__.py", "catalog/photo_store.py"}


def imports_of(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"the room {room} is empty"
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    for path in modules(room):
        for name in imports_of(path):
            top = name.split(".", maxsplit=1)[0]
            if top in {*ROOMS, "aisle", "tests", "bench"} and top != room:
                allowed = any(name == may or name.startswith(f"{may}.") for may in MAY_IMPORT[room])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_never_imports_what_it_must_not_know(room: str) -> None:
    for path in modules(room):
        for name in imports_of(path):
            assert name.split(".", maxsplit=1)[0] not in NEVER[room], (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_what_a_bare_gpu_node_imports_of_the_catalogue_needs_no_polars() -> None:
    for name in BARE_NODE:
        assert not any(found.startswith("polars") for found in imports_of(ROOT / name)), name


def test_every_module_says_why_it_exists() -> None:
    for room in ROOMS:
        for path in modules(room):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.relative_to(ROOT)
