"""Stage `code`: digest the code that each stage runs, so that DVC re-runs a stage for a changed loss but not
for a changed docstring. It comes before every other stage and follows params.yaml, so it checks that first:
a wrong name or value stops `dvc repro` before anything is read, deleted or trained.

A stage's digest covers its own module and every module of the house that it imports, directly or through
others, each as its syntax tree without docstrings, comments and layout. Left out are `tracking`,
`pipelines.runs`, `pipelines.parent_run` and `pipelines.recording`, which only look at what happened, and
`pipelines.params`, which only puts together configuration classes that the rooms own.
See docs/decisions/001-code-dependencies.md.
"""

import ast
import functools
import hashlib
from pathlib import Path

from imaging.atomic_write import write_text
from pipelines.params import load_params
from pipelines.stage import run_stage

ROOMS = ("imaging", "contracts", "catalog", "recognition", "training", "tracking", "pipelines")
LEFT_OUT = (
    "tracking",
    *(
        f"pipelines.{name}"
        for name in (
            "params",
            "params_data",
            "params_recipe",
            "code",
            "paths",
            "parent_run",
            "recording",
            "runs",
            "stage",
        )
    ),
)
DOCUMENTATION = ("meaning", "location", "written_by", "read_by")
"""What only docs/tables.md reads of a contract (contracts.table)."""
STAGES = (
    "phases",
    "source",
    "ingest",
    "duplicates",
    "split",
    "lists",
    "weights",
    "train",
    "predict",
    "refine",
    "explore",
    "embed",
    "ensemble",
    "evaluate",
)


def find_module(root: Path, name: str) -> Path | None:
    """The file of a module of the house, None for everything else."""
    if name.split(".", maxsplit=1)[0] not in ROOMS:
        return None
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def imported_names(tree: ast.Module) -> set[str]:
    """Every module name that an import statement anywhere in the tree may mean."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    parents = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    return names | parents


def strip_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone, and without what contracts of tables say to people."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DOCUMENTATION]
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [child for child in body if not _is_lone_string(child)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _is_lone_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def digest_stage(root: Path, stage: str) -> dict[str, str]:
    """SHA-256 of each module that a stage's code consists of, by module name."""
    waiting, digests = [f"pipelines.{stage}"], dict[str, str]()
    while waiting:
        name = waiting.pop()
        path = find_module(root, name)
        if path is None or name in digests or _is_left_out(name):
            continue
        digests[name], imported = _digest(path.read_text(encoding="utf-8"), path)
        waiting.extend(imported)
    return digests


def _is_left_out(name: str) -> bool:
    return any(name == left or name.startswith(f"{left}.") for left in LEFT_OUT)


@functools.cache  # fourteen stages share most of their modules
def _digest(text: str, path: Path) -> tuple[str, set[str]]:
    """The SHA-256 of a module without its docstrings, and the names that it imports."""
    tree = ast.parse(text, filename=str(path))
    imported = imported_names(tree)
    return hashlib.sha256(ast.unparse(strip_docstrings(tree)).encode()).hexdigest(), imported


def main() -> None:
    """Check params.yaml, then write data/code/<stage>.txt, a line a module, for a diff to show which changed.

    Raises ParamsError for a params.yaml that cannot be run.
    """
    load_params()
    out = Path("data/code")
    out.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        digests = digest_stage(Path(), stage)
        lines = (f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
        write_text(out / f"{stage}.txt", "".join(lines))


if __name__ == "__main__":
    run_stage(main)
