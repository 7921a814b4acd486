"""The network that reads photographs: what it is, how it learns, and that it survives a stop."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from photogram.errors import UserError
from photogram.generator import Reader
from photogram.nn.trunks import IMAGENET, embedded_squeezenet
from photogram.recipe import Run
from photogram.recipes import load, segmenter
from photogram.recipes.segmenter import SegmentationNetwork, Segmenter, augmented, class_weights, cross_entropy, rate
from photogram.scene import Condition, Layout, Scene, SceneClass, SceneSpec

RECIPE = Segmenter(width=16, warmup=0, schedule=100)
SPEC = SceneSpec(
    (*(SceneClass(f"class {n}", (n, 40 * n, 9)) for n in range(4)), SceneClass("void", (0, 0, 0), True)), (32, 48)
)


def network(width: int = 16, spec: SceneSpec = SPEC) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(spec=spec, width=width)


def scene(number: int, n: int = 2, size: tuple[int, int] = (32, 48)) -> Scene:
    """Rectangles, each class in a colour of its own; some of it void."""
    generator = torch.Generator().manual_seed(number)
    classes = torch.zeros(n, *size, dtype=torch.uint8)
    for one in classes:
        for label in range(1, 5):
            top, left = (int(torch.randint(0, s - 8, (), generator=generator)) for s in size)
            one[top : top + 12, left : left + 16] = label
    colors = torch.tensor([[-0.8, -0.8, 0.5], [0.8, -0.5, -0.5], [0.2, 0.8, 0.0], [0.9, 0.9, 0.9], [0.0, 0.0, 0.0]])
    photo = colors[classes.long()].movedim(-1, 1) + 0.05 * torch.randn(n, 3, *size, generator=generator)
    return Scene(Condition(Layout(classes)), photo.clamp(-1, 1))


def start(
    recipe: Segmenter = RECIPE, start_from: Path | None = None, spec: SceneSpec = SPEC
) -> segmenter.SegmenterTraining:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    return recipe.start(Run(Accelerator(cpu=True), spec, 10, 2, 0, start_from))


def losses(training: segmenter.SegmenterTraining, steps: range) -> list[float]:
    found = []
    for n in steps:
        torch.manual_seed(n)
        found.append(training.step(scene(n % 5), 2 * n)["loss"].item())
    return found


# --- the network -----------------------------------------------------------------------------------------------------


def test_the_default_network_is_small_enough_to_come_with_a_protocol():
    camvid = SceneSpec(tuple(SceneClass(f"class {n}", (n, n, n)) for n in range(12)), (192, 256))
    weights = SegmentationNetwork(spec=camvid, width=Segmenter.width).state_dict().values()
    assert sum(w.numel() for w in weights) * 4 < 4_000_000


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (64, 16)])
def test_logits_have_the_size_of_the_photograph(size):
    assert network()(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


def test_the_encoder_begins_as_the_embedded_squeezenet():
    """Its maps are those of SqueezeNet run plainly, with the borders that this encoder has."""
    _, weights = embedded_squeezenet()
    encoder = start().learning.encoder
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)
    x = (torch.rand(1, 3, 64, 80) - mean) / std

    def layer(x, name, **more):
        return F.relu(
            F.conv2d(x, weights[f"features.{name}.weight"].float(), weights[f"features.{name}.bias"].float(), **more)
        )

    plain, expected = layer(x, "0", stride=2, padding=1), []
    for index in ("3", "4", "6", "7", "9", "10", "11", "12"):
        if index in ("3", "6", "9"):
            expected.append(plain)
            plain = F.max_pool2d(plain, 3, 2, 1)
        squeezed = layer(plain, f"{index}.squeeze")
        plain = torch.cat([layer(squeezed, f"{index}.expand1x1"), layer(squeezed, f"{index}.expand3x3", padding=1)], 1)
    expected.append(plain)
    for found, wanted in zip(encoder(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (7, 90)])
def test_any_size_is_read_and_void_never(size):
    net = network()
    with torch.no_grad():
        net.to_classes.bias[4] = 100.0  # void, most likely by far
    read = net.predict(torch.rand(2, 3, *size) * 2 - 1)
    assert read.shape == (2, *size) and int(read.max()) < 4 and not read.is_floating_point()


def test_a_photograph_and_its_mirror_image_are_read_alike():
    photo = torch.rand(1, 3, 32, 48) * 2 - 1
    assert torch.equal(network().predict(photo.flip(-1)), network().predict(photo).flip(-1))


def test_reading_leaves_the_network_as_it_was():
    net = network().train()
    net.predict(torch.zeros(1, 3, 16, 16))
    assert net.training


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (torch.zeros(3, 32, 32), "floating-point [n, c, h, w] in [-1, 1], not float32 [3, 32, 32]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "not uint8 [1, 3, 32, 32]"),
        (torch.zeros(1, 1, 32, 32), "reads 3 channels, but the photograph is float32 [1, 1, 32, 32]"),
    ],
)
def test_what_is_no_photograph_is_refused(photo, words):
    with pytest.raises(UserError) as e:
        network().predict(photo)
    assert words in str(e.value) and "\n" not in str(e.value)


def test_grey_photographs_are_read():
    grey = replace(SPEC, photo_channels=1)
    assert network(spec=grey).predict(torch.zeros(1, 1, 32, 32)).shape == (1, 32, 32)


def test_it_comes_back_from_its_folder(tmp_path):
    net = network().eval()
    net.save_pretrained(tmp_path)
    loaded, photo = load(tmp_path), torch.rand(1, 3, 32, 48)
    assert isinstance(loaded, Reader)
    with torch.no_grad():
        assert torch.equal(loaded(photo), net(photo))


@pytest.mark.parametrize("width", [0, 8, 20])
def test_an_impossible_width_is_refused(width):
    with pytest.raises(UserError, match="must be a multiple of 16"):
        SegmentationNetwork(spec=SPEC, width=width)


# --- how it learns ---------------------------------------------------------------------------------------------------


def test_it_learns_to_read():
    training = start(replace(RECIPE, learning_rate=5e-3, encoder_rate=0.1, jitter=0.1, average=0.9, schedule=400))
    first = losses(training, range(80))
    assert sum(first[-5:]) < 0.5 * sum(first[:5])
    shown = scene(77)
    assert shown.photo is not None and shown.condition.layout is not None
    asked, read = shown.condition.layout.classes, training.published()["segmenter"].predict(shown.photo)
    seen = asked != 4
    assert float((read == asked)[seen].float().mean()) > 0.85


def test_a_training_goes_on_identically_from_its_state():
    whole, begun = start(), start()
    expected = losses(whole, range(8))
    assert losses(begun, range(5)) == expected[:5]
    resumed = start(replace(RECIPE, pretrained=False))
    resumed.load_state_dict(begun.state_dict())
    assert losses(resumed, range(5, 8)) == expected[5:]
    for a, b in zip(whole.averaged.parameters(), resumed.averaged.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_published_is_the_moving_average():
    training = start(replace(RECIPE, average=0.0))  # no memory: the network itself
    losses(training, range(2))
    for ours, theirs in zip(training.averaged.parameters(), training.learning.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach())
    slow = start(replace(RECIPE, average=0.999))
    losses(slow, range(2))
    assert any(
        not torch.equal(a, b) for a, b in zip(slow.averaged.parameters(), slow.learning.parameters(), strict=True)
    )


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine():
    recipe = Segmenter(learning_rate=2.0, warmup=10, schedule=1000)
    assert rate(recipe, 0) == pytest.approx(0.2, rel=1e-3) and rate(recipe, 4) == pytest.approx(1.0, rel=1e-3)
    assert rate(recipe, 500) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5))
    assert rate(recipe, 250) == pytest.approx(2.0 * (0.01 + 0.99 * 0.5 * (1 + math.sqrt(0.5))))
    assert rate(recipe, 1000) == rate(recipe, 5000) == pytest.approx(0.02)


def test_the_encoder_learns_at_a_share_of_the_rate():
    training = start()
    losses(training, range(1))
    assert [g["lr"] for g in training.adam.param_groups] == [rate(RECIPE, 0), 0.3 * rate(RECIPE, 0)]


def test_class_weights():
    pixels = torch.tensor([900.0, 100.0, 0.0, 50.0])
    assert class_weights(pixels, None, 0.0).tolist() == pytest.approx([1, 1, 0, 1])
    assert class_weights(pixels, 3, 0.0).tolist() == pytest.approx([1, 1, 0, 0])
    even = class_weights(pixels, 3, 1.0)
    assert float(even[0] * 900) == pytest.approx(float(even[1] * 100))
    half = class_weights(pixels, 3, 0.5)
    assert float(half[1] / half[0]) == pytest.approx(3.0)
    assert float(half[0] * 0.9 + half[1] * 0.1) == pytest.approx(1.0)
    assert class_weights(torch.zeros(3), None, 0.5).tolist() == [0, 0, 0]


def test_cross_entropy_against_its_slow_twin():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(-1, 3, (2, 4, 5))
    target[target == -1] = -100
    weights = torch.tensor([0.5, 2.0, 1.0])
    total, counted = 0.0, 0
    for n in range(2):
        for row in range(4):
            for column in range(5):
                label = int(target[n, row, column])
                if label != -100:
                    p = logits[n, :, row, column].softmax(0)[label]
                    total, counted = total - weights[label] * p.log(), counted + 1
    ours = cross_entropy(logits, target, weights)
    torch.testing.assert_close(ours, total / counted)
    (ours_gradient,) = torch.autograd.grad(ours, logits, retain_graph=True)
    (twin_gradient,) = torch.autograd.grad(total / counted, logits)
    torch.testing.assert_close(ours_gradient, twin_gradient)


def test_a_picture_of_void_alone_teaches_nothing():
    training = start()
    void = Scene(Condition(Layout(torch.full((2, 32, 48), 4, dtype=torch.uint8))), torch.zeros(2, 3, 32, 48))
    found = training.step(void, 0)
    assert found["loss"].item() == 0 and all(p.isfinite().all() for p in training.learning.parameters())


# --- augmentation ----------------------------------------------------------------------------------------------------


def test_without_scale_and_jitter_only_mirrors_remain():
    plain = replace(RECIPE, smallest_scale=1.0, largest_scale=1.0, jitter=0.0)
    shown = scene(3, n=8)
    assert shown.photo is not None and shown.condition.layout is not None
    classes = shown.condition.layout.classes.long()
    torch.manual_seed(1)
    photo, labels = augmented(shown.photo, classes, plain, SPEC)
    mirrored = [bool((labels[n] == classes[n].flip(-1)).all()) for n in range(8)]
    assert any(mirrored) and not all(mirrored)
    for n in range(8):
        expected = (shown.photo[n].flip(-1), classes[n].flip(-1)) if mirrored[n] else (shown.photo[n], classes[n])
        torch.testing.assert_close(photo[n], expected[0], rtol=0, atol=1e-5)
        assert torch.equal(labels[n], expected[1])


@pytest.mark.parametrize("scale", [0.5, 1.7])
def test_photographs_and_labels_move_together(scale):
    recipe = replace(RECIPE, smallest_scale=scale, largest_scale=scale, jitter=0.0)
    classes = torch.zeros(4, 32, 48, dtype=torch.long)
    classes[:, 10:20, 15:40] = 2
    photo = (classes[:, None].float() / 2 * 1.6 - 0.8).expand(-1, 3, -1, -1)
    torch.manual_seed(2)
    moved, labels = augmented(photo, classes, recipe, SPEC)
    agree = ((moved[:, 0] > 0) == (labels == 2)) | (moved[:, 0].abs() < 0.75)  # a border pixel is a mixture
    assert bool(agree.all()) and bool((labels == 2).any())
    assert bool((labels == 4).any()) == (scale < 1)  # what lies outside is void


def test_without_a_void_class_the_border_is_repeated():
    spec = SceneSpec(SPEC.classes[:4], (32, 48))
    torch.manual_seed(0)
    recipe = replace(RECIPE, smallest_scale=0.5, largest_scale=0.5)
    _, labels = augmented(torch.zeros(2, 3, 32, 48), torch.full((2, 32, 48), 3), recipe, spec)
    assert bool((labels == 3).all())


def test_augmentation_is_a_function_of_torchs_seed():
    shown = scene(3)
    assert shown.photo is not None and shown.condition.layout is not None
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        found.append(augmented(shown.photo, shown.condition.layout.classes.long(), RECIPE, SPEC)[0])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"schedule": 0}, "--schedule 0: must be above 0"),
        ({"encoder_rate": 1.5}, "--encoder-rate 1.5: must be 1 or less"),
        ({"average": 1.0}, "--average 1.0: must be below 1"),
        ({"jitter": -0.1}, "--jitter -0.1: must be 0 or more"),
        ({"largest_scale": 0.5}, "--largest-scale 0.5: must be 0.75 or more"),
        ({"weight_decay": math.nan}, "--weight-decay nan"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(UserError) as e:
        start(replace(RECIPE, **changes))
    assert words in str(e.value)


def test_data_without_classes_is_refused():
    with pytest.raises(UserError, match="fewer than two besides void"):
        start(spec=SceneSpec((SPEC.classes[0], SPEC.classes[4]), (32, 48)))


def test_it_starts_from_another_and_refuses_one_that_does_not_fit(tmp_path):
    network().save_pretrained(tmp_path / "one")
    source, begun = load(tmp_path / "one"), start(start_from=tmp_path / "one")
    for ours, theirs in zip(begun.learning.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours.detach(), theirs.detach())
    network(32).save_pretrained(tmp_path / "wide")
    with pytest.raises(UserError, match="has width 32, not 16"):
        start(start_from=tmp_path / "wide")
    other = replace(SPEC, classes=(SceneClass("else", (1, 1, 1)), *SPEC.classes[1:]))
    network(spec=other).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="was trained with class 0 as"):
        start(start_from=tmp_path / "other")
