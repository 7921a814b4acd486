"""How much memory a training could take here."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = {  # of a container: the limit, what is used, and which of it are files that the kernel can drop
    "": ("memory.max", "memory.current", ("inactive_file", "active_file")),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
}


def available_memory() -> int:
    """Bytes of the first GPU, or of the machine, as far as we may use it."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return min(int(psutil.virtual_memory().available), *_allowed(Path("/proc/self/cgroup"), CGROUPS))


def _allowed(own: Path, root: Path) -> list[int]:
    """What the control groups that this process is in leave of their limits; nothing where they set none.

    Args:
        own: the file that says which groups these are, a line a controller: `number:names:path`.
        root: where the groups are.
    """
    try:
        groups = [line.split(":", 2)[1:] for line in own.read_text().splitlines()]
    except OSError:  # no Linux
        return [2**63 - 1]
    found = [2**63 - 1]
    for names, path in groups:
        kind = "" if not names else "memory"
        if names and "memory" not in names.split(","):
            continue
        below = Path(path.lstrip("/"))
        found += [left for part in (below, *below.parents) if (left := _left(root / kind / part, kind)) is not None]
    return found


def _left(folder: Path, kind: str) -> int | None:
    limit, used, dropped = _LIMITS[kind]
    try:
        allowed = (folder / limit).read_text().strip()
        if allowed == "max":
            return None
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        taken = int((folder / used).read_text()) - sum(int(stat.get(name, 0)) for name in dropped)
        return max(0, int(allowed) - max(0, taken))
    except (OSError, ValueError):
        return None
