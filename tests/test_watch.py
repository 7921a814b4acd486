"""Looking at held-out scenes while a training goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from small_training import Blocks, Colors

from photogram.data.toy import Toy
from photogram.errors import UserError
from photogram.generator import Network
from photogram.metrics.lpips import load_lpips
from photogram.metrics.watch import Watch
from photogram.opinions import BEST, RECORD
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.scene import Condition, Layout, Scene
from photogram.training import Plan, train

SIZE = (32, 48)
PLAN = Plan(steps=12, save_every=5, evaluate_every=4, workers=0, quiet=True)


class Opinion:
    def __init__(self, score: float):
        self.score, self.values = score, {"niceness": score}


class Judge:
    """Likes what it sees second best of all."""

    def __init__(self, *scores: float):
        self.scores, self.seen = list(scores), []

    def __call__(self, network: Network) -> Opinion:
        self.seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return Opinion(self.scores[len(self.seen) - 1])


def opinions(out):
    return [json.loads(line) for line in (out / RECORD).read_text().splitlines()]


def test_the_best_is_kept_beside_the_last(tmp_path):
    judge = Judge(0.1, 0.9, 0.5)
    train(Colors(), Blocks(), tmp_path, PLAN, judge=judge)
    assert [(o["step"], o["niceness"]) for o in opinions(tmp_path)] == [(4, 0.1), (8, 0.9), (12, 0.5)]
    best, last = (Colors.networks[0].from_pretrained(tmp_path / name) for name in (BEST, "."))
    for kept, seen in ((best, judge.seen[1]), (last, judge.seen[2])):
        assert all(torch.equal(v, seen[k]) for k, v in kept.state_dict().items())
    assert "chosen: best of evaluation.jsonl" in (tmp_path / BEST / "README.md").read_text()


def test_stopped_and_resumed_it_says_the_same(tmp_path):
    scores = (0.1, 0.9, 0.5)
    train(Colors(), Blocks(), tmp_path / "through", PLAN, judge=Judge(*scores))
    train(Colors(), Blocks(), tmp_path / "parts", replace(PLAN, steps=6), judge=Judge(*scores))
    train(Colors(), Blocks(), tmp_path / "parts", PLAN, judge=Judge(*scores[1:]))
    assert opinions(tmp_path / "through") == opinions(tmp_path / "parts")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "through" / BEST / name).read_bytes() == (tmp_path / "parts" / BEST / name).read_bytes()


def test_what_was_said_after_the_state_is_said_again(tmp_path):
    """A training that was killed between its opinion and its state."""
    train(Colors(), Blocks(), tmp_path, replace(PLAN, steps=8), judge=Judge(0.1, 0.2))
    said = opinions(tmp_path)
    (tmp_path / RECORD).write_text("".join(json.dumps(o) + "\n" for o in (*said, {"step": 12, "scores": {}})))
    train(Colors(), Blocks(), tmp_path, PLAN, judge=Judge(0.9))
    assert [o["step"] for o in opinions(tmp_path)] == [4, 8, 12] and opinions(tmp_path)[2]["niceness"] == 0.9


@pytest.mark.parametrize("nothing", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_the_best(tmp_path, nothing):
    judge = Judge(nothing, 0.2, nothing)
    train(Colors(), Blocks(), tmp_path, PLAN, judge=judge)
    kept = Colors.networks[0].from_pretrained(tmp_path / BEST)
    assert all(torch.equal(v, judge.seen[1][k]) for k, v in kept.state_dict().items())
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / RECORD).read_text().splitlines()]
    assert [line["niceness"] for line in lines] == [None, 0.2, None]
    assert [line["scores"] for line in lines] == [{"colors": None}, {"colors": 0.2}, {"colors": None}]


def test_a_record_of_no_numbers_goes_on(tmp_path):
    train(Colors(), Blocks(), tmp_path, replace(PLAN, steps=4), judge=Judge(math.nan))
    judge = Judge(-3.0, -4.0)
    train(Colors(), Blocks(), tmp_path, PLAN, judge=judge)
    kept = Colors.networks[0].from_pretrained(tmp_path / BEST)
    assert all(torch.equal(v, judge.seen[0][k]) for k, v in kept.state_dict().items())


def test_a_damaged_record_is_named(tmp_path):
    train(Colors(), Blocks(), tmp_path, replace(PLAN, steps=4), judge=Judge(0.1))
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.jsonl: is damaged"):
        train(Colors(), Blocks(), tmp_path, PLAN, judge=Judge(0.1, 0.2))


def test_without_a_judge_there_is_no_record(tmp_path):
    train(Colors(), Blocks(), tmp_path, PLAN)
    assert not (tmp_path / RECORD).exists() and not (tmp_path / BEST).exists()


def test_other_settings_are_refused_when_it_goes_on(tmp_path):
    train(Colors(), Blocks(), tmp_path, replace(PLAN, steps=4), judge=Judge(0.1))
    with pytest.raises(UserError, match="evaluate_every = 4, not 6"):
        train(Colors(), Blocks(), tmp_path, replace(PLAN, evaluate_every=6), judge=Judge(0.1))
    with pytest.raises(UserError, match="--evaluate-every -1: must be at least 0"):
        train(Colors(), Blocks(), tmp_path / "new", replace(PLAN, evaluate_every=-1))


def test_painters_are_judged_by_lpips():
    torch.manual_seed(0)
    scenes = Toy("val", size=SIZE, count=6)
    network, lpips = CascadedRefinementNetwork(spec=scenes.spec, widths=(4, 4)), load_lpips()
    found = Watch(scenes, lpips, count=3)(network)
    assert found is not None
    distances = []
    for index in (1, 3, 5):  # spread evenly
        scene = scenes[index, 0]
        assert scene.photo is not None
        distances.append(float(lpips(network.sample(scene.condition), scene.photo)))
    assert found.values == {"LPIPS[squeeze]": pytest.approx(sum(distances) / 3)}
    assert found.score == -found.values["LPIPS[squeeze]"]


def test_readers_are_judged_by_their_mean_iou():
    torch.manual_seed(0)
    scenes = Toy("val", size=SIZE, count=6)
    found = Watch(scenes, load_lpips())(SegmentationNetwork(spec=scenes.spec, width=16))
    assert found is not None and set(found.values) == {"mean_iou", "pixel_accuracy"}
    assert found.score == found.values["mean_iou"] and 0 <= found.score <= 1


class AllVoid(Toy):
    """Scenes whose every pixel is unlabelled."""

    def __getitem__(self, key: tuple[int, int]) -> Scene:
        condition, photo = super().__getitem__(key)
        assert condition.layout is not None and self.spec.void is not None
        return Scene(Condition(Layout(torch.full_like(condition.layout.classes, self.spec.void))), photo)


def test_where_all_is_void_nothing_can_be_read():
    scenes = AllVoid("val", size=SIZE, count=2)
    found = Watch(scenes, load_lpips())(SegmentationNetwork(spec=scenes.spec, width=16))
    assert found is not None and math.isnan(found.score)
    assert all(math.isnan(value) for value in found.values.values()) and len(found.values) == 2


def test_of_other_networks_it_has_no_opinion():
    scenes = Toy("val", size=SIZE, count=2)
    assert Watch(scenes, load_lpips())(Network()) is None
