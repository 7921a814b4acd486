"""Shapes and types are checked for real in tests, for free in production.

Every function of photogram that a test calls in its own process has its annotations checked by beartype, the shapes of
tensors (jaxtyping) among them: a batch of another size than promised fails the test.
"""

from __future__ import annotations

import os

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do where a float is asked for
# Before anything of photogram is imported: the hook decorates the functions of modules as they come in.
install_import_hook("photogram", f"{__name__}.typechecked")

import pytest  # noqa: E402
import torch  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    # beartype looks at one item of a long list, drawn with `random`; also where hypothesis builds a dataclass.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
    share_processors(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def share_processors(workers: int) -> None:
    """Let the workers of pytest-xdist, and the processes that their tests start, share the processors."""
    if workers > 1:
        threads = max(1, (os.cpu_count() or 1) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
