"""In which order photographs are shown, and how they get from files to the network.

Order and draws are functions of (seed, position), where position counts photographs from the first one shown: there is
no sampler state to save, and a training that resumes sees what it would have seen.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache

import numpy as np
from torch.utils.data import DataLoader, Dataset

from photogram.errors import UserError
from photogram.recipe import Scenes
from photogram.scene import Scene, collate

Key = tuple[int, int]


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def scene_at(position: int, count: int, seed: int) -> Key:
    """Which of `count` scenes is shown at a position, and the number that makes its flips and crops.

    Each epoch is a fresh permutation.
    """
    epoch, place = divmod(position, count)
    draw = np.random.SeedSequence([seed, 1, position]).generate_state(1, np.uint64)[0]
    return int(_permutation(seed, epoch, count)[place]), int(draw)


class Batches:
    """The batches of one process, from a step on: process r of W takes the r-th B of every W x B photographs."""

    def __init__(self, count: int, seed: int, batch_size: int, steps: range, rank: int = 0, processes: int = 1):
        self.count, self.seed, self.batch_size, self.steps = count, seed, batch_size, steps
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            first = (step * self.processes + self.rank) * self.batch_size
            yield [scene_at(first + i, self.count, self.seed) for i in range(self.batch_size)]


class _Careful(Dataset[Scene | UserError]):
    """Scenes whose mistakes travel from a worker as they are, not wrapped in its traceback."""

    def __init__(self, scenes: Scenes):
        self.scenes = scenes

    def __getitem__(self, key: Key) -> Scene | UserError:
        try:
            return self.scenes[key]
        except UserError as e:
            return e


def _collate(scenes: Sequence[Scene | UserError]) -> Scene | UserError:
    mistakes = [s for s in scenes if isinstance(s, UserError)]
    return mistakes[0] if mistakes else collate([s for s in scenes if isinstance(s, Scene)])


def _leave_signals_to_the_loop(worker: int) -> None:
    """Ctrl-C and job schedulers signal the whole group; the loop wants its readers until it has saved.

    SIGTERM counts from the loop alone, which ends its readers by it where nothing else does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # others do not tell who has sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_as_asked_by, args=(os.getppid(),), daemon=True).start()


def _end_as_asked_by(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def load(scenes: Scenes, batches: Batches, workers: int) -> Generator[Scene, None, None]:
    """Read batches ahead in `workers` processes (0: in this one), in order. Closing it ends them.

    Raises:
        UserError: what reading a scene raised; or that a worker was killed.
    """
    with warnings.catch_warnings():  # more workers than processors are the user's choice
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader = DataLoader(
            _Careful(scenes),
            batch_sampler=batches,  # pyright: ignore[reportArgumentType]
            num_workers=workers,
            collate_fn=_collate,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_leave_signals_to_the_loop,
        )
    try:
        for scene in loader:
            if isinstance(scene, UserError):
                raise scene
            yield scene
    except RuntimeError as e:  # torch's only word for a reader that was killed, by a lack of memory for instance
        if not str(e).startswith("DataLoader worker"):  # a bug in a reader, whose traceback must be seen
            raise
        raise UserError(f"a process that reads data has died ({e}); try --workers 0") from None
