"""How the cascade learns: the checks of the specification on training, calibration, robustness and the hand-over."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from test_crn import Blur, cascade, random_layout, randomise_norms, spec_of
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from photogram.data.toy import Toy
from photogram.errors import UserError
from photogram.nn import perceptual
from photogram.nn.perceptual import (
    AUTHORS,
    LOSS_WEIGHTS,
    LOSS_WEIGHTS_OF_MANY,
    Calibration,
    PerceptualLoss,
    Remembered,
    calibrated,
    known_weights,
)
from photogram.nn.trunks import Trunk, load_trunk
from photogram.recipe import Run
from photogram.recipes.crn import CRN, CascadedRefinementNetwork, RegressionTraining, hand_over
from photogram.scene import Condition, Layout, Scene, SceneSpec
from photogram.training import Plan, train

RECIPE = CRN(widths=(6, 5, 4), perceptual="blur")


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature network that costs nothing, and for which no weights are known."""
    monkeypatch.setattr(perceptual, "load_trunk", lambda perceptual: Blur())


def run_of(
    spec: SceneSpec,
    photographs: int = 10,
    batch_size: int = 1,
    start_from: Path | None = None,
    precision: Literal["no", "bf16"] = "no",
) -> Run:
    AcceleratorState._reset_state(reset_partial_state=True)
    return Run(Accelerator(cpu=True, mixed_precision=precision), spec, photographs, batch_size, 0, start_from)


def start(recipe: CRN = RECIPE, seed: int = 0, **changes: object) -> RegressionTraining:
    torch.manual_seed(seed)
    return recipe.start(replace(run_of(spec_of(4)), **changes))  # type: ignore[arg-type]


def scene(number: int, n: int = 1, size: tuple[int, int] = (8, 16)) -> Scene:
    layout = random_layout(size, n=n)
    layout = Layout((layout.classes + number) % 4)
    noise = torch.Generator().manual_seed(number)
    palette = torch.rand(4, 3, generator=noise) * 2 - 1
    photo = palette[layout.classes.long()].permute(0, 3, 1, 2) + 0.1 * torch.randn(n, 3, *size, generator=noise)
    return Scene(Condition(layout), photo.clamp(-1, 1))


# Check 12: the weights of the terms.


def test_check_12_constants_by_released_model():
    divisors = {"nine": (1, 1.6, 2.3, 1.8, 2.8, 0.08), "one": (1, 2.6, 4.8, 3.7, 5.6, 0.15)}
    divisors |= {"GTA": (1, 1.4, 1.8, 1.3, 2.2, 0.062), "first": (1, 1, 1, 1, 1, 0.1)}
    first, nine, one, gta = AUTHORS.values()
    for name, found in (("first", first), ("nine", nine), ("one", one), ("GTA", gta)):
        assert found == pytest.approx([1 / d for d in divisors[name]]), name
    assert gta[5] == pytest.approx(16.129, abs=5e-4)


def test_check_12_constants_by_feature_network(blur: None):
    divisors = (1, 2.6, 4.8, 3.7, 5.6, 1.5 / 10)  # of section 3.3, one image at 512p and 1024p
    assert LOSS_WEIGHTS["vgg19-matconvnet"] == pytest.approx([1 / d for d in divisors])
    assert LOSS_WEIGHTS["vgg19-matconvnet"][5] == pytest.approx(6.6667, abs=5e-5)
    known = start(CRN(widths=(6, 5, 4), perceptual="none")).calibration
    assert known.current.tolist() == [1] and len(known.first) == 0
    assert known_weights(None, 9) == (1.0,)
    squeezenet = load_trunk("squeezenet")
    known = Calibration(
        PerceptualLoss(squeezenet), weights=known_weights(squeezenet, 1), first=64, photographs=10, shown=1
    )
    assert known.current.tolist() == pytest.approx(LOSS_WEIGHTS["squeezenet"]) and len(known.first) == 0
    given = start(replace(RECIPE, loss_weights=(1, 0.5, 0.25))).calibration
    assert given.current.tolist() == [1, 0.5, 0.25] and len(given.first) == 0
    nine = (1, 1.6, 2.3, 1.8, 2.8, 0.8 / 10)
    assert LOSS_WEIGHTS_OF_MANY["vgg19-matconvnet"] == pytest.approx([1 / d for d in nine])
    assert "vgg19" not in LOSS_WEIGHTS  # torchvision's is another training run, with other magnitudes
    assert all(len(weights) == 6 and weights[0] == 1 for weights in LOSS_WEIGHTS.values())


def test_check_12_calibration_on_a_toy_loader_returns_m0_over_ml(blur: None):
    training, seen = start(), []
    for step in range(6):
        losses = training.step(scene(step), step)
        seen.append(torch.stack([losses[name].detach() for name in ("image", "half", "quarter")]).double())
        m = torch.stack(seen).mean(0)
        assert training.calibration.current.tolist() == pytest.approx((m[0] / m).tolist(), rel=1e-6)
        weighted = float((training.calibration.current * seen[-1]).sum())
        assert losses["loss"].item() == pytest.approx(weighted, rel=1e-5)
    assert calibrated({"image": 8.0, "half": 4.0, "quarter": 80.0}) == (1.0, 2.0, 0.1)


@pytest.mark.parametrize(("terms", "name"), [((1.0, 0.0, 2.0), "half"), ((0.0, 1.0, 2.0), "image")])
@pytest.mark.parametrize("when", [{"calibrate_first": 4}, {"calibrate_first": 0, "calibrate_epoch": 1}])
def test_a_term_of_zero_is_named_with_the_way_out(terms: tuple[float, ...], name: str, when: dict[str, object]):
    c = calibration(photographs=4, **when)
    with pytest.raises(UserError, match=f"the term '{name}' is 0 .* --loss-weights, one each for image half quarter"):
        for seen in range(5):
            c.weights(torch.tensor(terms), seen)


def test_a_term_that_is_zero_once_is_balanced_by_the_other_photographs():
    c = calibration(calibrate_first=4)
    c.weights(torch.tensor([2.0, 1.0, 1.0]), 0)
    assert c.weights(torch.tensor([2.0, 0.0, 1.0]), 1).tolist() == [1, 4, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("when", [{"calibrate_first": 4}, {"calibrate_first": 0, "calibrate_epoch": 1}])
def test_terms_that_are_not_finite_leave_the_weights_to_the_loops_own_check(value: float, when: dict[str, object]):
    c, untouched = calibration(photographs=4, **when), calibration(photographs=4, **when)
    for one in (c, untouched):
        one.weights(terms_at(0), 0)
    before = c.current
    assert torch.equal(c.weights(torch.tensor([1.0, value, 2.0]), 1), before)
    assert str(c.state_dict()) == str(untouched.state_dict())


def test_a_step_that_is_not_finite_ends_without_an_error_of_its_own(blur: None):
    training, one = start(), scene(0)
    assert one.photo is not None
    one.photo[0, 0, 0, 0] = float("nan")
    assert training.step(one, 0)["loss"].isnan()


class Calls(TorchFunctionMode):
    """Which methods of tensors are called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def test_means_are_widened_on_the_processor_since_some_devices_cannot():
    c = calibration()
    with Calls() as calls:
        c.weights(terms_at(0), 0)
    assert calls.names.index("cpu") < calls.names.index("double")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": -0.1}, r"--learning-rate -0\.1: must be above 0 and finite"),
        ({"learning_rate": 0.0}, r"--learning-rate 0\.0: must be above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be above 0"),
        ({"learning_rate": float("inf")}, "--learning-rate inf: must be above 0 and finite"),
        ({"calibrate_first": -1}, "--calibrate-first -1: must be 0 or more"),
        ({"calibrate_epoch": -2}, "--calibrate-epoch -2: must be 0 or more"),
        ({"loss_weights": (1.0, -0.5, 1.0)}, r"--loss-weights 1\.0 -0\.5 1\.0: must be finite and 0 or more"),
        ({"loss_weights": (1.0, float("nan"), 1.0)}, r"--loss-weights 1\.0 nan 1\.0: must be finite"),
        ({"loss_weights": (1.0, float("inf"), 1.0)}, r"--loss-weights 1\.0 inf 1\.0: must be finite"),
        ({"loss_weights": (0.0, 0.0, 0.0)}, r"--loss-weights 0\.0 0\.0 0\.0: .* one of them above 0"),
        ({"widths": ()}, "--widths: must be one positive integer or more"),
        ({"widths": (8, 0)}, "--widths 8 0: must be one positive integer or more"),
        ({"widths": (-4,)}, "--widths -4: must be one positive integer or more"),
    ],
)
def test_values_that_no_training_can_have_are_refused_before_anything_starts(
    changes: dict[str, object], message: str, blur: None
):
    recipe = replace(RECIPE, **changes)  # type: ignore[arg-type]
    for refuse in (recipe.size_multiple, lambda: recipe.start(run_of(spec_of(4)))):
        with pytest.raises(UserError, match=message):
            refuse()


def test_photographs_that_the_features_cannot_see_are_refused_at_the_start():
    recipe = replace(RECIPE, perceptual="squeezenet")
    for channels in (2, 4):
        with pytest.raises(UserError, match=f"squeezenet sees photographs of 1 or 3 channels, .* have {channels};"):
            recipe.start(run_of(replace(spec_of(4, (8, 16)), photo_channels=channels)))
    with pytest.raises(UserError, match="--size 4 16: squeezenet needs 8 pixels a side or more"):
        recipe.start(run_of(spec_of(4, (4, 16))))
    recipe.start(run_of(replace(spec_of(4, (8, 16)), photo_channels=1)))


def test_the_number_of_weights_must_be_the_number_of_terms(blur: None):
    with pytest.raises(UserError, match=r"--loss-weights has 2 values, but blur has 3 terms: image, half, quarter"):
        start(replace(RECIPE, loss_weights=(1, 2)))


def calibration(
    photographs: int = 10,
    shown: int = 1,
    calibrate_first: int = 64,
    calibrate_epoch: int = 0,
    loss_weights: tuple[float, ...] = (),
) -> Calibration:
    return Calibration(
        PerceptualLoss(Blur()),
        weights=loss_weights,
        first=calibrate_first,
        epoch=calibrate_epoch,
        photographs=photographs,
        shown=shown,
    )


def terms_at(seen: int) -> Tensor:
    """Terms whose ratios differ from step to step."""
    return torch.tensor([10.0 + seen, 1.0 + seen % 3, 100.0 / (1 + seen)])


def weights_of(means: list[Tensor]) -> list[float]:
    m = torch.stack(means).double().mean(0)
    return (m[0] / m).tolist()


def test_the_first_photographs_calibrate_and_then_nothing_moves():
    c = calibration(calibrate_first=4)
    for seen in range(12):
        found = c.weights(terms_at(seen), seen).tolist()
        assert found == pytest.approx(weights_of([terms_at(s) for s in range(min(seen + 1, 4))]))


def test_without_calibration_the_weights_stay_at_one():
    c = calibration(calibrate_first=0)
    assert all(c.weights(terms_at(seen), seen).tolist() == [1, 1, 1] for seen in range(30))


@pytest.mark.parametrize(
    ("photographs", "shown", "epoch"),
    [(10, 1, 2), (10, 4, 2), (10, 4, 1), (10, 5, 3), (7, 3, 2), (3, 8, 2), (4, 4, 5), (1, 1, 3)],
)
@pytest.mark.parametrize("known", [False, True])
def test_one_epoch_rescales_once_whatever_the_batch(photographs: int, shown: int, epoch: int, known: bool):
    weights = (1.0, 2.0, 3.0) if known else ()
    c = calibration(photographs, shown, calibrate_first=6, calibrate_epoch=epoch, loss_weights=weights)
    steps = range(0, (epoch + 2) * max(photographs, shown), shown)
    inside = [s for s in steps if (epoch - 1) * photographs <= s < epoch * photographs]
    if not inside:  # a step shows more than the epoch has: the next one stands for it
        inside = [next(s for s in steps if s >= (epoch - 1) * photographs)]
    until = inside[0] if inside[0] else inside[-1] + 1  # the epoch has the last word
    first = [] if known else [s for s in steps if s < min(6, until)]
    before = list(weights) or [1.0, 1.0, 1.0]
    for seen in steps:
        found = c.weights(terms_at(seen), seen).tolist()
        if seen > inside[-1]:
            expected = weights_of([terms_at(s) for s in inside])
        elif seen >= inside[0] and seen not in first:
            expected = before
        else:
            expected = weights_of([terms_at(s) for s in first if s <= seen]) if first else before
        assert found == pytest.approx(expected), f"after {seen} photographs"
        before = found


@pytest.mark.parametrize("stop", [2, 4, 13, 20, 31])
def test_a_calibration_goes_on_identically_from_its_state(stop: int):
    def weights(seen_range: range, c: Calibration) -> list[list[float]]:
        return [c.weights(terms_at(s), s).tolist() for s in seen_range]

    new = {"calibrate_first": 5, "calibrate_epoch": 3}  # epoch 3 begins at photograph 20
    whole = weights(range(40), calibration(**new))
    c = calibration(**new)
    begun = weights(range(stop), c)
    resumed = calibration(**new)
    resumed.load_state_dict(through_a_file(c.state_dict()))
    assert begun + weights(range(stop, 40), resumed) == whole


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# Checks 15 and 18: learning.


def test_check_15_every_parameter_gets_a_finite_gradient_and_the_features_none():
    network, trunk = cascade(), load_trunk("squeezenet")
    one = scene(0, size=(16, 32))
    assert one.condition.layout is not None and one.photo is not None
    terms = PerceptualLoss(trunk)(network(one.condition.layout)[:, 0], one.photo)
    (torch.tensor(LOSS_WEIGHTS["squeezenet"]) * terms).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert all(p.grad is None for p in trunk.parameters())


def test_check_15_each_term_alone_reaches_every_parameter():
    one, loss = scene(0, size=(16, 32)), PerceptualLoss(load_trunk("squeezenet"))
    assert one.condition.layout is not None and one.photo is not None
    for term in range(6):
        network = cascade()
        loss(network(one.condition.layout)[:, 0], one.photo)[term].backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters()), loss.names[term]


def test_check_18_one_pair_is_learnt_by_heart(blur: None):
    """The small preset of five modules, its start of 4 x 8, Adam at 1e-4, the image term alone."""
    torch.manual_seed(0)
    run = run_of(spec_of(20, (64, 128)))
    training = CRN(widths=(64, 64, 64, 64, 32), loss_weights=(1, 0, 0)).start(run)
    one = scene(3, size=(64, 128))
    first = training.step(one, 0)["image"].item()
    for step in range(1, 300):
        losses = training.step(one, step)
        if losses["image"].item() < first / 5:
            break
    assert losses["loss"].item() == pytest.approx(losses["image"].item())
    assert losses["image"].item() < first / 5


def test_all_terms_fall_with_real_features():
    torch.manual_seed(0)
    training = CRN(widths=(16, 16, 16), perceptual="squeezenet", learning_rate=3e-3).start(run_of(spec_of(4)))
    before = {k: v.item() for k, v in training.step(scene(1, size=(16, 32)), 0).items()}
    for step in range(1, 30):
        after = training.step(scene(1, size=(16, 32)), step)
    assert list(after) == ["loss", "image", "conv1", "fire3", "fire5", "fire7", "fire9"]
    assert all(after[name].item() < 0.9 * value for name, value in before.items())


def losses_of(training: RegressionTraining, steps: range) -> list[dict[str, float]]:
    return [{k: v.item() for k, v in training.step(scene(s), s).items()} for s in steps]


def test_check_19_repeated_training_is_identical_and_other_seeds_are_others(blur: None):
    first, second, other = (start(seed=seed) for seed in (4, 4, 5))
    losses = losses_of(first, range(5))
    assert losses == losses_of(second, range(5)) != losses_of(other, range(5))
    weights = [list(t.published()["generator"].parameters()) for t in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_training_goes_on_identically_from_its_state(blur: None):
    recipe = replace(RECIPE, calibrate_first=4, calibrate_epoch=2, learning_rate=1e-3)
    whole = start(recipe)
    losses = losses_of(whole, range(24))
    begun = start(recipe)
    assert losses_of(begun, range(13)) == losses[:13]
    resumed = start(recipe, seed=99)
    resumed.load_state_dict(through_a_file(begun.state_dict()))  # type: ignore[arg-type]
    assert losses_of(resumed, range(13, 24)) == losses[13:]
    weights = [list(t.published()["generator"].parameters()) for t in (whole, resumed)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_a_file_of_the_same_name_with_other_weights_is_refused(monkeypatch: pytest.MonkeyPatch):
    trunk = load_trunk("squeezenet")
    monkeypatch.setattr(perceptual, "load_trunk", lambda perceptual: trunk)
    recipe = CRN(widths=(6, 5, 4), perceptual="trunk.safetensors")
    state = start(recipe, photographs=4).state_dict()
    start(recipe, photographs=4).load_state_dict(state)
    next(trunk.parameters()).data[0, 0, 0, 0] += 1e-3
    with pytest.raises(UserError, match=r"^--perceptual trunk.safetensors: holds other weights than when this run was"):
        start(recipe, photographs=4).load_state_dict(state)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_is_published_paints_as_it_does_when_it_is_loaded(
    precision: Literal["no", "bf16"], tmp_path: Path, blur: None
):
    torch.manual_seed(0)
    training = replace(RECIPE, widths=(32, 16, 16)).start(run_of(spec_of(4), precision=precision))
    for number in range(2):
        training.step(scene(number), number)
    published, layout = training.published()["generator"], random_layout((8, 16), n=2)
    published.save_pretrained(tmp_path)
    loaded = CascadedRefinementNetwork.from_pretrained(tmp_path)
    assert torch.equal(published.sample(layout), loaded.sample(layout))
    rounded = torch.equal(training.generator(layout)[:, 0].clamp(-1, 1), loaded.sample(layout))
    assert rounded == (precision == "no")  # in training, convolutions are in the training's precision


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_step_is_the_plain_formula(precision: Literal["no", "bf16"], blur: None):
    """The painting in the training's precision, its loss in float32, and Adam."""
    recipe = replace(RECIPE, loss_weights=(1, 0.5, 0.25), learning_rate=1e-2)
    torch.manual_seed(0)
    training = recipe.start(run_of(spec_of(4), precision=precision))
    torch.manual_seed(0)
    network = CascadedRefinementNetwork(spec=spec_of(4), widths=recipe.widths)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    adam, loss = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True), PerceptualLoss(Blur())
    for number in range(3):
        one = scene(number)
        assert one.condition.layout is not None and one.photo is not None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            terms = loss(network(one.condition.layout)[:, 0].float(), one.photo)
        total = (torch.tensor([1, 0.5, 0.25]) * terms).sum()
        adam.zero_grad()
        total.backward()
        adam.step()
        assert training.step(one, number)["loss"].item() == total.item()
    assert_equal(training.published()["generator"], network)


def test_data_without_layouts_or_with_images_is_refused(blur: None):
    for spec in (SceneSpec(size=(8, 16)), replace(spec_of(4), image_channels=1)):
        with pytest.raises(UserError, match="crn paints from layouts alone"):
            RECIPE.start(run_of(spec))


# Checks 19 to 21: invariance and robustness.


def test_check_19_a_batch_of_two_equals_two_of_one():
    network, layout = cascade(), random_layout((16, 32), n=2)
    randomise_norms(network)
    with torch.no_grad():
        both = network(layout)
        single = torch.cat([network(Layout(layout.classes[i : i + 1])) for i in range(2)])
    assert (both - single).abs().max() < 1e-5 * both.abs().max()
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_check_19_gradients_of_a_batch_are_the_mean_of_those_of_its_scenes(blur: None):
    network, two = cascade().double(), scene(2, n=2)
    loss = PerceptualLoss(Blur())
    assert two.condition.layout is not None and two.photo is not None
    classes, photo = two.condition.layout.classes, two.photo

    def gradients(part: slice) -> list[Tensor]:
        terms = loss(network(Layout(classes[part]))[:, 0], photo[part])
        return list(torch.autograd.grad(terms.sum(), list(network.parameters())))

    both, first, second = (gradients(s) for s in (slice(0, 2), slice(0, 1), slice(1, 2)))
    for a, b, c in zip(both, first, second, strict=True):
        torch.testing.assert_close(a, (b + c) / 2, rtol=1e-4, atol=1e-4 * float(a.abs().max()))


def test_check_20_one_pixel_in_a_corner_changes_the_opposite_one():
    network, layout = cascade(), random_layout((32, 64))
    changed = layout.classes.clone()
    changed[0, -1, -1] = (changed[0, -1, -1] + 1) % 4
    with torch.no_grad():
        difference = (network(layout) - network(Layout(changed)))[0, 0].abs()
    assert difference[:, 0, 0].max() > 1e-5  # so that tiles would not fit together
    assert difference[:, -1, -1].max() > difference[:, 0, 0].max()


def test_check_21_bfloat16_convolutions_stay_within_two_grey_levels(record_property):
    network, layout = cascade(widths=(32, 32, 32, 16, 8)), random_layout((64, 128))
    randomise_norms(network)
    with torch.no_grad():
        exact = network(layout)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(layout)
    levels = float(127.5 * (exact - rounded.float()).abs().mean())
    record_property("mean absolute difference in grey levels", levels)
    assert 0 < levels < 2  # more is to be flagged
    assert 127.5 * exact.std() > 20  # of a picture that has contrast


def test_constant_and_all_void_layouts_paint_finite_photographs():
    network = cascade()
    for value in range(4):
        assert network.sample(Layout(torch.full((1, 16, 32), value, dtype=torch.uint8))).isfinite().all()


# Check 17 in its single-image form: the hand-over.


def features_of(network: CascadedRefinementNetwork, depth: int, layout: Layout) -> Tensor:
    """F of the module of that number, while the whole network paints."""
    seen: list[Tensor] = []
    hook = network.cascade[depth].register_forward_hook(lambda _, inputs, output: seen.append(output.detach()))
    network(layout)
    hook.remove()
    return seen[0]


def assert_equal(ours: nn.Module, theirs: nn.Module) -> None:
    pairs = zip(ours.named_parameters(), theirs.named_parameters(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_check_17_a_longer_cascade_takes_all_but_the_projection(tmp_path: Path):
    shorter = cascade(widths=(6, 5))
    longer, fresh = cascade(seed=1), cascade(seed=1)
    randomise_norms(shorter)
    shorter.save_pretrained(tmp_path)
    hand_over(tmp_path, longer)
    assert_equal(longer.cascade[:2], shorter.cascade)
    assert_equal(longer.cascade[2:], fresh.cascade[2:])
    assert_equal(longer.to_rgb, fresh.to_rgb)
    # The same F where both have a module: the layout of the longer, at half its size, is what the shorter was given.
    coarse = random_layout((8, 16))
    fine = Layout(coarse.classes.repeat_interleave(2, 1).repeat_interleave(2, 2))
    for depth in range(2):
        assert torch.equal(features_of(longer, depth, fine), features_of(shorter, depth, coarse))


def test_a_longer_cascade_of_the_same_last_width_takes_no_projection_either(tmp_path: Path):
    cascade(widths=(6, 4)).save_pretrained(tmp_path)
    longer, fresh = cascade(widths=(6, 4, 4), seed=1), cascade(widths=(6, 4, 4), seed=1)
    hand_over(tmp_path, longer)
    assert_equal(longer.to_rgb, fresh.to_rgb)


def test_equal_widths_take_everything(tmp_path: Path, blur: None):
    source = cascade(seed=1)
    randomise_norms(source)
    source.save_pretrained(tmp_path)
    training = start(start_from=tmp_path)
    assert_equal(training.published()["generator"], source)
    training.step(scene(0), 0)
    changed = zip(training.published()["generator"].parameters(), source.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in changed)
    assert_equal(CascadedRefinementNetwork.from_pretrained(tmp_path), source)  # the source is as it was


def test_what_does_not_fit_is_refused(tmp_path: Path, blur: None):
    cascade(widths=(6, 5)).save_pretrained(tmp_path)
    for widths in ((6,), (6, 4, 4), (5, 5)):
        with pytest.raises(UserError, match=r"has widths \(6, 5\); \(.*\) must begin with them"):
            hand_over(tmp_path, cascade(widths=widths))
    for spec in (spec_of(3), spec_of(4, names="other")):
        with pytest.raises(UserError, match=r"was trained (on|with)"):
            hand_over(tmp_path, CascadedRefinementNetwork(spec=spec, widths=(6, 5, 4)))
    with pytest.raises(UserError, match="nowhere: no such folder"):
        start(start_from=tmp_path / "nowhere")


def test_no_warning_is_left_in_a_step(blur: None):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # each is an exception
        losses = start().step(scene(0, n=2), 0)
    assert losses["loss"].isfinite()


def test_the_calibrated_weights_are_kept_in_the_runs_configuration(tmp_path: Path):
    """And the run goes on with them in it."""
    recipe = CRN(widths=(4, 4), perceptual="squeezenet", calibrate_epoch=1)
    data = Toy("train", size=(16, 24), count=4)
    for steps in (5, 6):
        train(recipe, data, tmp_path / "run", Plan(steps=steps, precision="fp32", workers=0, quiet=True))
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        found = record["found"]["loss weights in use (lambda)"]
        assert found.startswith("image 1, conv1 ") and "conv1 2.56" not in found  # rescaled after the first epoch
        assert found in (tmp_path / "run" / "report.html").read_text()
        assert found in (tmp_path / "run" / "README.md").read_text()
        assert record["calibrate_epoch"] == 1


# --- features that are remembered ------------------------------------------------------------------------------------


class Counting(Trunk):
    """One feature map, the photograph itself twice; counts its passes."""

    def __init__(self):
        super().__init__("counting", ("all",), ((0.5,) * 3, (0.5,) * 3))
        self.passes = 0

    def maps(self, x: Tensor) -> list[Tensor]:
        self.passes += len(x)
        return [2 * x]


def test_photographs_seen_again_need_no_pass():
    trunk, photos = Counting(), torch.rand(3, 3, 8, 6)
    plain, loss = PerceptualLoss(trunk), PerceptualLoss(trunk, room=3 * 4 * 3 * 48)
    paintings = torch.rand(3, 3, 8, 6, requires_grad=True)
    expected = plain(paintings, photos)
    trunk.passes = 0
    for _ in range(2):
        assert torch.equal(loss(paintings, photos), expected)
    assert trunk.passes == 3 + 2 * 3  # each photograph once, paintings always
    other = photos.clone()
    other[1, 0, 0, 0] += 1
    assert not torch.equal(loss(paintings, other), expected)  # by content, not by name


def test_what_has_no_room_is_computed_again():
    trunk, photos = Counting(), torch.rand(3, 3, 8, 6)
    seen = Remembered(trunk, 2 * 4 * 3 * 48)  # of the first two
    for _ in range(2):
        assert torch.equal(seen(photos)[0], trunk(photos)[0])
    assert len(seen.maps) == 2 and seen.room == 0 and trunk.passes == 2 * 3 + 3 + 1
    turned = photos.transpose(2, 3).contiguous()
    assert seen(turned)[0].shape == (3, 3, 6, 8)  # of the same bytes, it may be, but of another form
