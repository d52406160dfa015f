"""Memory that is freed and taken again; in a process of its own, whose malloc nothing has touched."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

TAKE_AND_FREE = """
import resource
import sys
import torch
from recognition.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(10):  # the first ones' small neighbours stay in malloc's cache, which takes seven of a size
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what it sets")
def test_large_blocks_come_back_without_new_pages() -> None:
    freed, kept = (
        int(subprocess.check_output([sys.executable, "-c", TAKE_AND_FREE, how])) for how in ("freed", "kept")
    )
    assert kept < 100 < freed
