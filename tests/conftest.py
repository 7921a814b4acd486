"""Shapes and types are checked for real in tests, for free in production.

Every function of photogram that a test calls in its own process has its annotations checked by beartype, the shapes of
tensors (jaxtyping) among them: a batch of another size than promised fails the test.
"""

from __future__ import annotations

import os

from jaxtyping import install_import_hook

# Before anything of photogram is imported; the hook rewrites modules as they come in.
install_import_hook("photogram", "beartype.beartype")

import torch  # noqa: E402  (slow, and after the threads are known it would be no quicker)


def pytest_configure() -> None:
    """Let workers of pytest-xdist, and the processes that their tests start, share the processors."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(1, (os.cpu_count() or 1) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
