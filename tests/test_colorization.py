"""Interactive colourisation: the network and its counts, losses, phases, and what a hint does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from small_training import ENVIRONMENT
from torch import nn
from toy_scenes import ToyGreys, ToyPhotos

from photogram.errors import UserError
from photogram.nn.color import AB, colored, grey_of, lightness_of, seen_colors, to_lab, working_size
from photogram.nn.color_bins import BINS, OVERALL, bin_of, overall_of
from photogram.nn.hints import Spot, drawn, simulated
from photogram.nn.norms import BatchNorm
from photogram.recipe import Run
from photogram.recipes.colorization import (
    Block,
    Colorization,
    ColorizationNetwork,
    ColorizationOptions,
    ColorizationTraining,
    Shown,
    huber,
    shown,
    target_of,
)
from photogram.scene import Condition, Scene, SceneClass, SceneSpec

assert ENVIRONMENT["ACCELERATE_USE_CPU"] == "true"
SPEC = SceneSpec((), (16, 24), image_channels=1)
SMALL = Colorization(width=4, epochs_automatic=0, learning_rate=1e-3, hints_rate=1e-3)


def network(seed: int = 0, **changes: Any) -> ColorizationNetwork:
    torch.manual_seed(seed)
    return ColorizationNetwork(**{"spec": SPEC, "width": 4, **changes})


def loud(net: ColorizationNetwork) -> ColorizationNetwork:
    """With norms that do something and colours that are strong, as if it had learned much."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
        net.to_ab.weight.normal_(0, 1)
        net.to_bins.weight.normal_(0, 1)
    return net


def start(recipe: Colorization = SMALL, spec: SceneSpec = SPEC, photographs: int = 8, batch: int = 2) -> Any:
    torch.manual_seed(3)
    return recipe.start(Run(Accelerator(), spec, photographs, batch, 0))


def scene(n: int = 2, seed: int = 0) -> Scene:
    torch.manual_seed(seed)
    photo = torch.rand(n, 3, 16, 24) * 2 - 1
    return Scene(Condition(image=grey_of(photo)), photo)


# --- the network -----------------------------------------------------------------------------------------------------


def test_parameters_are_the_specifications():
    """34,187,027, the side head included; global hints come on top."""
    with torch.device("meta"):
        plain, informed = (network(width=64, global_hints=g) for g in (False, True))
    assert sum(p.numel() for p in plain.parameters()) == 34_187_027
    assert sum(p.numel() for p in plain.to_bins.parameters()) == 256 * 529 + 529
    more = (532 * 512 + 512) + 3 * (512 * 512 + 512)
    assert sum(p.numel() for p in informed.parameters()) == 34_187_027 + more


def test_shapes():
    with torch.device("meta"):
        net = network(width=64)
        found = net(Shown(torch.empty(2, 4, 256, 176)))
    assert found.ab.shape == (2, 2, 256, 176) and found.bins.shape == (2, 529, 64, 44)


class Twin(nn.Module):
    """The same from torch's own modules, layer after layer as the specification lists them."""

    def __init__(self, net: ColorizationNetwork):
        super().__init__()
        self.net = net

        def plain(block: Block) -> nn.Sequential:
            layers: list[nn.Module] = []
            for conv in block.convs:
                layers += [conv, nn.ReLU()]
            norm = nn.BatchNorm2d(len(block.norm.weight))
            norm.weight, norm.bias = block.norm.weight, block.norm.bias
            norm.running_mean = block.norm.running_mean.clone()
            norm.running_var = block.norm.running_var.clone()
            return nn.Sequential(*layers, norm)

        self.blocks = nn.ModuleDict({f"{n}": plain(getattr(net, f"conv{n}")) for n in range(1, 10)})

    def forward(self, planes: torch.Tensor, overall: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        net, block = self.net, self.blocks
        conv1 = block["1"](planes)
        conv2 = block["2"](conv1[:, :, ::2, ::2])
        conv3 = block["3"](conv2[:, :, ::2, ::2])
        conv4 = block["4"](conv3[:, :, ::2, ::2])
        if overall is not None:
            y = overall[:, :, None, None]
            for conv in net.overall:
                y = conv(y).relu()
            conv4 = conv4 + y.expand_as(conv4)
        conv7 = block["7"](block["6"](block["5"](conv4)))
        conv8 = block["8"]((net.up8(conv7) + net.skip8(conv3)).relu())
        conv9 = block["9"]((net.up9(conv8) + net.skip9(conv2)).relu())
        conv10 = F.leaky_relu(net.conv10((net.up10(conv9) + net.skip10(conv1)).relu()), 0.2)
        return net.to_ab(conv10).tanh() * 110, net.to_bins(conv8)


@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("global_hints", [False, True])
def test_it_is_the_plain_network(statistics, global_hints):
    net = loud(network(global_hints=global_hints)).double()
    twin = Twin(net).double().train(statistics == "batch")
    planes = torch.randn(2, 4, 16, 24, dtype=torch.float64)
    overall = torch.rand(2, OVERALL, dtype=torch.float64) if global_hints else None
    ab, bins = twin(planes, overall)
    found = net.run(Shown(planes.float().double(), overall), statistics)
    assert ab.std() > 10 and bins.std() > 0.1
    expected = twin(planes.float().double(), overall)
    torch.testing.assert_close(found.ab, expected[0].float(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.bins, expected[1].float(), rtol=1e-4, atol=1e-4)


def test_dilations_are_those_of_the_specification():
    net = network()
    for n in range(1, 9):
        convs = getattr(net, f"conv{n}").convs
        assert len(convs) == (2 if n in (1, 2, 8) else 3)
        assert {conv.dilation for conv in convs} == {(2, 2) if n in (5, 6) else (1, 1)}


def gradients(net: ColorizationNetwork) -> dict[str, bool]:
    return {name: p.grad is not None and bool(p.grad.abs().sum() > 0) for name, p in net.named_parameters()}


def test_gradients_are_the_plain_networks_where_nothing_is_cut():
    """With hints, those of the Huber loss."""
    net, one = loud(network()), scene()
    twin = Twin(net)
    planes = shown(one.condition.image, simulated(AB * seen_colors(one.photo), 0.2, 9, 0.0))
    results = []
    for ab in (lambda: net(Shown(planes)).ab, lambda: twin(planes, None)[0]):
        net.zero_grad()
        huber(ab(), AB * seen_colors(one.photo)).backward()
        results.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    assert results[0].keys() == results[1].keys() and "conv1.convs.0.weight" in results[0]
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("automatic", [True, False])
def test_each_phase_teaches_the_trunk_by_one_loss(automatic):
    way_up = ("up9", "skip9", "conv9", "up10", "skip10", "conv10", "to_ab")
    net, one = network(), scene()
    for loss, teaches in (("ab", not automatic), ("bins", automatic)):
        net.zero_grad()
        found = net(Shown(shown(one.condition.image, simulated(torch.zeros(2, 2, 16, 24), 1, 9, 0)), None, automatic))
        target = AB * seen_colors(one.photo)
        value = huber(found.ab, target) if loss == "ab" else F.cross_entropy(found.bins, target_of(one.photo))
        value.backward()
        for name, reached in gradients(net).items():
            head = name.split(".")[0]
            if head in way_up:
                assert reached == (loss == "ab"), name
            elif head == "to_bins":
                assert reached == (loss == "bins"), name
            else:
                assert reached == teaches, name


def test_what_the_network_sees():
    """(L - 50) / 100, ab / 110, mask - 0.5; where there is no hint, ab is 0."""
    grey = torch.tensor([-1.0, 1.0])[None, None, None]
    planes = shown(grey, drawn([Spot(1, 0, 0, 55, -110)], (1, 2), grey))
    expected = torch.tensor([[-0.5, 0.5], [0, 0.5], [0, -1], [-0.5, 0.5]])
    torch.testing.assert_close(planes[0, :, 0], expected, atol=1e-4, rtol=0)


def test_global_hints_are_added_to_conv4_everywhere_alike():
    net, planes, seen = loud(network(global_hints=True)), torch.randn(1, 4, 16, 24), []
    net.conv5.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for overall in (overall_of(scene(1).photo), torch.zeros(1, OVERALL)):
        net.run(Shown(planes, overall), "running")
    added = (seen[0] - seen[1])[0].flatten(1)
    assert added.abs().amax() > 1e-4
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=1e-4)


def test_synthesis_without_a_reference_knows_nothing_of_the_whole():
    net, grey = loud(network(global_hints=True)), scene(1).condition.image
    with torch.no_grad():
        planes = shown(grey, drawn([], (16, 24), grey))
        expected = colored(grey, net.run(Shown(planes, torch.zeros(1, OVERALL)), "running").ab / AB)
    torch.testing.assert_close(net.sample(grey), expected.clamp(-1, 1))


# --- losses ----------------------------------------------------------------------------------------------------------


def test_huber_in_units_of_ab_summed_over_a_and_b():
    zeros = torch.zeros(2, 2, 4, 4)
    assert huber(zeros, zeros + 0.5).item() == pytest.approx(2 * 0.125)
    assert huber(zeros, zeros + 1).item() == pytest.approx(2 * 0.5)
    assert huber(zeros, zeros - 11).item() == pytest.approx(2 * 10.5)
    one = zeros.clone()
    one[0, 0, 0, 0] = 3
    assert huber(zeros, one).item() == pytest.approx(2.5 / 32)
    ab = torch.full_like(zeros, 3.0, requires_grad=True)
    huber(ab, zeros).backward()
    torch.testing.assert_close(ab.grad, torch.full_like(zeros, 1 / 32))


def test_a_step_is_both_losses_by_hand():
    training, twin, one = start(), start(), scene()
    torch.manual_seed(9)
    losses = training.step(one, 0)
    torch.manual_seed(9)
    ab = to_lab(one.photo)[:, 1:]
    hints = simulated(ab, 0.125, 9, 0.01)
    net = twin.learning
    planes = torch.cat([(lightness_of(one.condition.image) - 50) / 100, hints.ab / 110, hints.mask - 0.5], 1)
    found = net.run(Shown(planes), "batch")
    difference = (found.ab - ab).abs()
    expected = torch.where(difference < 1, difference.square() / 2, difference - 0.5).sum(1).mean()
    torch.testing.assert_close(losses["huber"], expected, rtol=1e-4, atol=1e-4)
    target = bin_of(to_lab(F.avg_pool2d(one.photo, 4))[:, 1:])
    surprise = -found.bins.log_softmax(1).gather(1, target[:, None]).mean()
    torch.testing.assert_close(losses["bins"], surprise, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses["loss"], expected + surprise, rtol=1e-4, atol=1e-4)
    net.zero_grad()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    (expected + surprise).backward()
    for (name, ours), theirs in zip(training.learning.named_parameters(), net.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-2, atol=1e-3, msg=name)
        clear = ours.grad.abs() > 1e-3  # there, Adam's first step is its rate against the sign
        moved = (ours - before[name]).detach()[clear]
        torch.testing.assert_close(moved, -1e-3 * ours.grad[clear].sign(), rtol=1e-3, atol=1e-6, msg=name)


def test_the_first_phase_sees_no_hints_and_the_second_does():
    recipe = replace(SMALL, epochs_automatic=2, learning_rate=1e-3, hints_rate=1e-5)
    training, seen = start(recipe), []
    training.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for shown_before in (0, 14, 16, 18):  # of 8 photographs
        torch.manual_seed(shown_before)
        training.step(scene(), shown_before)
    masks = [float((s.planes[:, 3] + 0.5).sum()) for s in seen]
    assert masks[:2] == [0, 0] and masks[2] > 0 and masks[3] > 0
    assert [s.automatic for s in seen] == [True, True, False, False]
    assert seen[0].planes[:, 1:3].abs().sum() == 0
    assert {group["lr"] for group in training.adam.param_groups} == {1e-5}


def test_the_second_phase_begins_with_a_fresh_adam():
    recipe = replace(SMALL, epochs_automatic=1)
    training = start(recipe)
    steps = []
    for shown_before in range(0, 14, 2):
        training.step(scene(), shown_before)
        steps.append({int(state["step"]) for state in training.adam.state.values()})
    assert steps == [{1}, {2}, {3}, {4}, {1}, {2}, {3}]


def test_global_hints_are_revealed_to_half_of_the_images_each():
    training, seen = start(replace(SMALL, global_hints=True)), []
    training.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].overall))
    for n in range(20):
        torch.manual_seed(n)
        training.step(scene(4, n), 4 * n)
    told = torch.cat(seen)
    for indicator in (BINS, BINS + 2):
        assert 0.3 < float(told[:, indicator].mean()) < 0.7
    assert 0.1 < float((told[:, BINS] * told[:, BINS + 2]).mean()) < 0.45, "drawn each by itself"


def test_a_stop_between_the_phases_changes_nothing():
    recipe = replace(SMALL, epochs_automatic=1, global_hints=True)

    def go(training: ColorizationTraining, steps: range) -> list[dict[str, float]]:
        found = []
        for n in steps:
            torch.manual_seed(n)
            found.append({k: float(v.detach()) for k, v in training.step(scene(2, n), 2 * n).items()})
        return found

    through = go(start(recipe), range(7))
    for stop in (3, 4, 5):
        before, after = start(recipe), start(recipe)
        first = go(before, range(stop))
        after.load_state_dict(before.state_dict())
        assert first + go(after, range(stop, 7)) == through


# --- colouring -------------------------------------------------------------------------------------------------------


def ab_of(photo: torch.Tensor) -> torch.Tensor:
    return to_lab(photo)[:, 1:]


@pytest.mark.parametrize("size", [(16, 24), (17, 29), (50, 70), (3, 5), (1, 1)])
def test_any_size_keeps_its_lightness_with_and_without_hints(size):
    net, grey = loud(network()), torch.rand(2, 1, *size) * 2 - 1
    hints = (0.0, 0.0, 0.0, 60.0, -40.0, size[1] - 1.0, size[0] - 1.0, 1.0, -50.0, 90.0)
    for options in (None, ColorizationOptions(hints=hints)):
        photo = net.sample(grey, options=options)
        assert photo.shape == (2, 3, *size) and photo.isfinite().all()
        torch.testing.assert_close(lightness_of(grey), to_lab(photo)[:, :1], atol=0.05, rtol=0)
    assert ab_of(photo).abs().max() > 1


def test_colours_are_predicted_at_about_the_size_trained_at(monkeypatch):
    net, seen = network(), []
    run = ColorizationNetwork.run
    monkeypatch.setattr(ColorizationNetwork, "run", lambda self, s, how: seen.append((s, how)) or run(self, s, how))
    net.sample(torch.zeros(1, 1, 64, 96), options=ColorizationOptions(hints=(48.0, 32.0, 8.0, 10.0, 10.0)))
    (planes, overall, _), statistics = seen[0]
    assert planes.shape[-2:] == working_size((64, 96), (16, 24), 8) == (16, 24)
    assert overall is None and statistics == "running"
    assert (planes[0, 3] + 0.5).sum() == 16  # 17 of 96 columns are 4 of 24


@pytest.mark.parametrize("prepare", [network, lambda: loud(network())], ids=["untrained", "loud"])
def test_a_hint_changes_its_neighbourhood_and_not_the_lightness(prepare):
    """Near it more than far from it: at the border of a wide image it reaches no further than the network sees."""
    net = prepare()
    grey = torch.rand(1, 1, 16, 400, generator=torch.Generator().manual_seed(1)) - 0.5
    net.spec = replace(SPEC, size=(16, 400))
    plain = net.sample(grey)
    hinted = net.sample(grey, options=ColorizationOptions(hints=(10.0, 8.0, 3.0, 60.0, 60.0)))
    change = (ab_of(hinted) - ab_of(plain)).abs().amax(1)[0]
    assert change[5:12, 7:14].mean() > 1e-3
    assert change[5:12, 7:14].mean() > 10 * change[:, 300:].mean()
    torch.testing.assert_close(to_lab(hinted)[:, :1], to_lab(plain)[:, :1], atol=0.05, rtol=0)


def test_nothing_is_drawn_and_painting_teaches_nothing():
    net, grey = loud(network()), scene(1).condition.image
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    options = ColorizationOptions(hints=(3.0, 3.0, 1.0, 20.0, 20.0))
    first = net.train().sample(grey, 1, options)
    torch.rand(3)
    assert torch.equal(net.eval().sample(grey, 2, options), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_images_of_a_batch_do_not_mix():
    net, grey = loud(network()), scene(3).condition.image
    alone = torch.cat([net.sample(one[None]) for one in grey])
    torch.testing.assert_close(net.sample(grey), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_channels": 3}, "inputs of 1 channel and photographs of 3, not 3 and 3; `photogram prepare grey`"),
        ({"photo_channels": 1}, "not 1 and 1"),
        ({"classes": (SceneClass("sky", (0, 0, 0)),)}, "nor layouts"),
    ],
)
def test_scenes_that_are_not_grey_photographs_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        start(spec=replace(SPEC, **changes))
    with pytest.raises(UserError, match="not 0 and 3"):
        start(spec=ToyPhotos().spec)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "--width 0: must be 1 or more"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"hints_rate": float("nan")}, "--hints-rate nan: must be above 0"),
        ({"epochs_automatic": -1}, "--epochs-automatic -1: must be 0 or more"),
        ({"widest_hint": 0}, "--widest-hint 0: must be 1 or more"),
        ({"beta1": 1.0}, "--beta1 1.0: must be 0 or more, and below 1"),
        ({"hint_p": 0.0}, "--hint-p 0.0: must be above 0, and 1 or less"),
        ({"whole": 1.5}, "--whole 1.5: must be 0 to 1"),
    ],
)
def test_settings_that_no_training_can_have_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        replace(SMALL, **changes).size_multiple()


def test_one_pixel_of_one_photograph_cannot_be_normalised():
    with pytest.raises(UserError, match="--size 8 8: at an eighth, conv4 to conv7 would see one pixel"):
        start(spec=replace(SPEC, size=(8, 8)), batch=1)
    two = Scene(Condition(image=torch.zeros(2, 1, 8, 8)), torch.zeros(2, 3, 8, 8))
    start(spec=replace(SPEC, size=(8, 8)), batch=2).step(two, 0)
    wide = Scene(Condition(image=torch.zeros(1, 1, 8, 16)), torch.zeros(1, 3, 8, 16))
    start(spec=replace(SPEC, size=(8, 16)), batch=1).step(wide, 0)


def test_defaults_are_the_specifications():
    recipe = Colorization()
    assert (recipe.hint_p, recipe.widest_hint, recipe.whole) == (0.125, 9, 0.01)
    assert (recipe.epochs_automatic, recipe.learning_rate, recipe.hints_rate) == (15, 1e-4, 1e-5)
    assert recipe.size_multiple() == 8 and not recipe.global_hints


# --- learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned() -> ColorizationNetwork:
    """A tiny network that has seen the toy world for seconds, the first of them without hints."""
    data = ToyGreys(size=(16, 24), count=32)
    scenes = [data[n, 0] for n in range(32)]
    recipe = Colorization(width=8, epochs_automatic=5, learning_rate=3e-3, hints_rate=3e-3)
    torch.manual_seed(0)
    training = recipe.start(Run(Accelerator(), data.spec, 32, 8, 0))
    for step in range(120):
        chosen = [scenes[(8 * step + n) % 32] for n in range(8)]
        images = [one.condition.image for one in chosen]
        photos = [one.photo for one in chosen]
        torch.manual_seed(step)
        training.step(Scene(Condition(image=torch.cat(images)), torch.cat(photos)), 8 * step)  # pyright: ignore
    return training.learning


def test_hints_help_on_scenes_that_it_has_not_seen(learned):
    """True colours at nine places bring the whole nearer to the photograph."""
    data = ToyGreys("val", size=(16, 24), count=8)
    automatic = hinted = grey = 0.0
    places = [(x, y) for y in (2, 8, 13) for x in (3, 12, 20)]
    for n in range(8):
        one = data[n, 0]
        true = ab_of(one.photo)
        hints = tuple(v for x, y in places for v in (float(x), float(y), 1.0, *true[0, :, y, x].tolist()))
        found = [learned.sample(one.condition.image, options=ColorizationOptions(hints=h)) for h in ((), hints)]
        automatic += float(huber(ab_of(found[0]), true))
        hinted += float(huber(ab_of(found[1]), true))
        grey += float(huber(torch.zeros_like(true), true))
    assert hinted < automatic < grey


def test_a_wrong_hint_is_obeyed_near_it_and_leaves_the_lightness(learned):
    image = ToyGreys("val", size=(16, 24), count=8)[0, 0].condition.image
    plain = learned.sample(image)
    for a in (-40.0, 40.0):
        found = learned.sample(image, options=ColorizationOptions(hints=(12.0, 8.0, 2.0, a, 0.0)))
        change = (ab_of(found) - ab_of(plain))[0, 0]
        assert float(change[7:10, 11:14].mean()) * a > 0, "towards green or towards red"
        assert change[6:11, 10:15].abs().mean() > change.abs().mean()
        torch.testing.assert_close(to_lab(found)[:, :1], lightness_of(image), atol=0.05, rtol=0)
