"""In which order scenes are shown: a function of the seed and of the place alone."""

import gc
import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import Blocks, run_python

from photogram.errors import UserError
from photogram.loading import Batches, load, scene_at

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than there are cores

counts, seeds = st.integers(1, 40), st.integers(0, 2**63 - 1)


def shown(count: int, seed: int, batch: int, steps: range, rank: int = 0, processes: int = 1) -> list[tuple[int, int]]:
    return [key for keys in Batches(count, seed, batch, steps, rank, processes) for key in keys]


@settings(max_examples=40, deadline=None)
@given(counts, seeds, st.integers(0, 50))
def test_every_epoch_shows_every_scene_once(count, seed, epoch):
    indices = [scene_at(epoch * count + i, count, seed)[0] for i in range(count)]
    assert sorted(indices) == list(range(count))


def test_epochs_and_seeds_differ():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(scene_at(epoch * 30 + i, 30, seed)[0] for i in range(30))

    assert len({order(seed, epoch) for seed in range(5) for epoch in range(5)}) == 25


@settings(max_examples=40, deadline=None)
@given(counts, seeds, st.lists(st.integers(0, 2000), min_size=2, max_size=8))
def test_a_place_says_all(count, seed, places):
    """No history: asked in any order, again and again, a place gives the same scene and the same draw."""
    first = {place: scene_at(place, count, seed) for place in places}
    assert {place: scene_at(place, count, seed) for place in reversed(places)} == first


@settings(max_examples=40, deadline=None)
@given(counts, seeds)
def test_draws_differ_from_photograph_to_photograph(count, seed):
    draws = [scene_at(place, count, seed)[1] for place in range(3 * count)]
    assert len(set(draws)) == len(draws)


def test_draws_are_even():
    odd = sum(scene_at(place, 7, 0)[1] % 2 for place in range(4000))
    assert abs(odd - 2000) < 200


@settings(max_examples=40, deadline=None)
@given(counts, seeds, st.integers(1, 5), st.integers(1, 4), st.integers(0, 9), st.integers(1, 6))
def test_processes_share_what_one_would_show(count, seed, batch, processes, start, steps):
    """W processes of batch B show in each step what one process of batch W x B shows, each its part."""
    whole = list(Batches(count, seed, batch * processes, range(start, start + steps)))
    parts = [
        list(Batches(count, seed, batch, range(start, start + steps), rank, processes)) for rank in range(processes)
    ]
    for step, keys in enumerate(whole):
        assert [key for part in parts for key in part[step]] == keys


@settings(max_examples=40, deadline=None)
@given(counts, seeds, st.integers(1, 5), st.integers(0, 20))
def test_going_on_shows_the_rest(count, seed, batch, done):
    assert shown(count, seed, batch, range(done, 20)) == shown(count, seed, batch, range(20))[done * batch :]


def test_length():
    assert len(Batches(10, 0, 3, range(4, 11))) == 7


@pytest.mark.parametrize("workers", (1, 3))
def test_workers_read_the_same_in_the_same_order(workers):
    def photos(n: int) -> torch.Tensor:
        scenes = load(Blocks(flip=True), Batches(7, 5, 2, range(9)), n)
        return torch.stack([scene.photo for scene in scenes if scene.photo is not None])

    torch.testing.assert_close(photos(workers), photos(0), rtol=0, atol=0)


@pytest.mark.parametrize("workers", (0, 2))
def test_a_damaged_scene_is_one_line_when_its_turn_comes(workers):
    batches = Batches(7, 0, 1, range(20))
    turn = [keys[0][0] for keys in batches].index(4)
    scenes = load(Blocks(damaged=4), batches, workers)
    for _ in range(turn):
        next(scenes)
    with pytest.raises(UserError) as caught:
        next(scenes)
    assert str(caught.value) == "photos/block_04.jpg: cannot be decoded, damaged or cut short"


class Deadly(Blocks):
    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGKILL)


class Buggy(Blocks):
    def __getitem__(self, key):
        raise RuntimeError("a bug")


def test_a_worker_that_is_killed_is_one_line():
    with pytest.raises(UserError, match=r"a process that reads data has died .*--workers 0") as caught:
        next(load(Deadly(), Batches(7, 0, 1, range(3)), 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", (0, 1))
def test_a_bug_in_a_reader_keeps_its_traceback(workers):
    with pytest.raises(RuntimeError, match="a bug") as caught:
        next(load(Buggy(), Batches(7, 0, 1, range(3)), workers))
    assert not isinstance(caught.value, UserError)
    assert not workers or "Traceback" in str(caught.value)


def readers() -> set[int]:
    gc.collect()  # a test that failed to read may have left one in its traceback
    return {child.pid for child in multiprocessing.active_children() if child.pid}


def test_closing_ends_the_workers():
    before = readers()
    scenes = load(Blocks(), Batches(7, 0, 1, range(1000)), 2)
    next(scenes)
    assert len(readers() - before) == 2
    scenes.close()
    assert readers() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell who has sent a signal")
def test_signals_to_the_group_do_not_end_the_workers():
    before = readers()
    scenes = load(Blocks(), Batches(7, 0, 1, range(50)), 1)
    next(scenes)
    (worker,) = readers() - before
    assert run_python(f"import os; os.kill({worker}, 15); os.kill({worker}, 2)").returncode == 0
    assert sum(1 for _ in scenes) == 49
    assert readers() <= before


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell who has sent a signal")
def test_a_program_that_ends_with_scenes_unread_ends():
    start = time.monotonic()
    done = run_python(
        "from small_training import Blocks\n"
        "from photogram.loading import Batches, load\n"
        "scenes = load(Blocks(), Batches(7, 0, 1, range(1000)), 2)\n"
        "next(scenes)\n"
        "kept = scenes.gi_frame.f_locals['loader'], scenes\n"
        "scenes.gi_frame.f_locals['loader'].kept = kept\n"
        "raise SystemExit(7)\n"
    )
    assert done.returncode == 7, done.stderr
    assert time.monotonic() - start < 120
