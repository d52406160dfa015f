"""What all tests share: a `python` that starts in milliseconds, for tests that run many stages."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.warm_python import warm_python


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of end-to-end tests first, each file as a whole."""
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder to put first on PATH: stages then take the time of what they do, not of their imports."""
    with warm_python(tmp_path_factory.mktemp("python")) as folder:
        yield folder
