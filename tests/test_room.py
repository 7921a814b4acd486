"""How much memory there is, by the machine and by the container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from photogram.room import _allowed, available_memory

NONE = 2**63 - 1


def group(folder: Path, limit: str, used: int, files: int, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    before = "" if version == 2 else "total_"
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{before}inactive_file {files - 1}\n{before}active_file 1\n")


def test_it_is_below_what_the_machine_has():
    assert 0 < available_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("version", [2, 1])
def test_files_that_the_kernel_keeps_are_free(version: int, tmp_path: Path):
    own = tmp_path / "cgroup"
    own.write_text("0::/\n" if version == 2 else "5:cpu,cpuacct:/x\n4:memory:/\n")
    group(tmp_path / ("" if version == 2 else "memory"), "1000", 900, 600, version)
    assert min(_allowed(own, tmp_path)) == 700


def test_the_narrowest_of_nested_limits_holds(tmp_path: Path):
    own = tmp_path / "cgroup"
    own.write_text("0::/a/b/c\n")
    group(tmp_path, "max", 0, 1)
    group(tmp_path / "a", "5000", 1000, 1)
    group(tmp_path / "a" / "b", "2000", 1900, 100)
    group(tmp_path / "a" / "b" / "c", "max", 100, 1)
    assert sorted(_allowed(own, tmp_path)) == [200, 4001, NONE]


def test_where_nothing_is_known_nothing_is_limited(tmp_path: Path):
    assert _allowed(tmp_path / "missing", tmp_path) == [NONE]
    (tmp_path / "cgroup").write_text("0::/\n")
    assert _allowed(tmp_path / "cgroup", tmp_path) == [NONE]
    group(tmp_path, "many", 1, 1)
    assert _allowed(tmp_path / "cgroup", tmp_path) == [NONE]
