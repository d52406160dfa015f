"""The house's rule about who may import whom, read from the imports themselves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    "imaging",
    "contracts",
    "catalog",
    "recognition",
    "training",
    "tracking",
    "pipelines",
    "service",
    "aisle",
)

# What a room may import of the house, and what it must never import from outside.
MAY_IMPORT = {
    "imaging": set(),
    "contracts": {"imaging"},
    "catalog": {"imaging", "contracts"},
    "recognition": {"imaging", "contracts"},
    "training": {"imaging", "contracts", "catalog.photo_store", "recognition"},
    "tracking": {"imaging", "contracts", "recognition"},
    "pipelines": {"imaging", "contracts", "catalog", "recognition", "training", "tracking"},
    "service": {"imaging", "recognition", "tracking"},
    "aisle": {
        "imaging",
        "contracts",
        "catalog",
        "recognition",
        "training",
        "tracking",
        "pipelines",
        "service",
    },
}
NEVER = {
    "imaging": {"torch", "polars", "mlflow", "dvc", "fastapi"},
    "contracts": {"torch", "polars", "mlflow", "dvc", "fastapi", "pydantic"},
    "catalog": {"torch", "mlflow", "fastapi", "dvc"},
    "recognition": {"mlflow", "fastapi", "dvc", "polars", "pydantic"},
    "training": {"mlflow", "fastapi", "dvc", "polars"},
    "tracking": {"fastapi"},
    "pipelines": {"fastapi"},
    "service": {"dvc"},
    "aisle": {"fastapi"},
}
# From the bottom: a module of tracking imports those before it, so that a value is handed one way.
TRACKING_ORDER = (
    "project",
    "lineage.origin",
    "lineage.record",
    "project_store",
    "experiment_view",
    "store",
    "runs.known_metrics",
    "runs.spool",
    "runs.pipeline_run",
    "runs.sender",
    "runs.sending",
    "runs.run_log",
    "runs.note",
    "runs.plots",
    "runs.system_metrics",
    "runs.records",
    "runs.results",
    "runs.comparison",
    "artifacts",
    "registry.card",
    "registry.model_code",
    "registry.logged_model",
    "registry.versions",
    "registry.listing",
    "history.migrations.versions.v001_events",
    "history.tables",
    "history.migrations.env",
    "history.events",
    "history.database",
    "history.history",
    "history.state",
    "history.outside",
    "history.registered",
    "registry.registration",
    "lineage.tree",
    "lineage.lines",
    "lineage.page",
    "lineage.photos",
    "gates.config",
    "gates.report",
    "gates.integrity",
    "gates.photos",
    "gates.errors",
    "gates.classes",
    "gates.serving",
    "gates.origins",
    "gates.check",
    "gates.page",
    "operations",
    "promotion",
    "approval",
    "deletion",
    "doctor.finding",
    "doctor.stores",
    "doctor.runs",
    "doctor.registry",
    "doctor.files",
    "doctor.examine",
)
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
            if top in {*ROOMS, "tests", "bench"} and top != room:
                allowed = any(name == may or name.startswith(f"{may}.") for may in MAY_IMPORT[room])
                assert allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_never_imports_what_it_must_not_know(room: str) -> None:
    for path in modules(room):
        for name in imports_of(path):
            assert name.split(".", maxsplit=1)[0] not in NEVER[room], (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_a_module_of_tracking_imports_only_those_below_it() -> None:
    files = {
        ".".join(path.relative_to(ROOT / "tracking").with_suffix("").parts): path
        for path in modules("tracking")
        if path.stem != "__init__"
    }
    assert sorted(TRACKING_ORDER) == sorted(files)
    for level, module in enumerate(TRACKING_ORDER):
        for name in imports_of(files[module]):
            if name.startswith("tracking."):
                below = any(
                    name.startswith(f"tracking.{lower}.") or name == f"tracking.{lower}"
                    for lower in TRACKING_ORDER[:level]
                )
                assert below, f"{module} imports {name}"


def test_what_a_bare_gpu_node_imports_of_the_catalogue_needs_no_polars() -> None:
    for name in BARE_NODE:
        assert not any(found.startswith("polars") for found in imports_of(ROOT / name)), name


def test_every_module_says_why_it_exists() -> None:
    for room in ROOMS:
        for path in modules(room):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.relative_to(ROOT)


# What no stage reads of another: a person's index, a cache of ingest, a report for a person.
OWN_PARQUET = {"catalog/sources/table.py", "catalog/ingest/stamps.py", "aisle/show_lists.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_tables_between_stages_are_read_and_written_by_their_contracts(room: str) -> None:
    for path in modules(room):
        name = path.relative_to(ROOT).as_posix()
        if name not in OWN_PARQUET and room != "contracts":
            text = path.read_text(encoding="utf-8")
            found = re.findall(r"(?:read|scan|write)_parquet\w*|pq\.(?:read|write)_\w+|ParquetFile", text)
            assert not found, f"{name}: {found} beside the contract's read and write"
