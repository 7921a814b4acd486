"""Augmentation of what a discriminator is shown, against slow twins that go pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from photogram.errors import UserError
from photogram.nn.augment import CUTOUT, TRANSLATION, augmented, check_policy, recolored
from photogram.nn.layout_conv import LayoutLevel

ALL = ("color", "translation", "cutout")
SIZE = (12, 20)


def picture(n: int = 3, channels: int = 3, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def layouts(n: int = 3, size: tuple[int, int] = SIZE, classes: int = 5) -> Tensor:
    return torch.randint(classes, (n, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def slowly_recolored(x: Tensor) -> Tensor:
    """Value by value, from the paper's words."""
    brightness, saturation, contrast = (torch.rand(len(x)) for _ in range(3))
    out = []
    for one, b, s, c in zip(x, brightness - 0.5, saturation * 2, contrast + 0.5, strict=True):
        one = one + b
        grey = sum(one) / len(one)
        one = torch.stack([plane * s + grey * (1 - s) for plane in one])
        mean = one.sum() / one.numel()
        out.append(one * c + mean * (1 - c))
    return torch.stack(out)


def slowly_moved(x: Tensor, value: float) -> Tensor:
    height, width = x.shape[-2:]
    downs, rights = (torch.randint(-((n + 4) // 8), (n + 4) // 8 + 1, (len(x),)).tolist() for n in (height, width))
    out = torch.full_like(x, value)
    for n, (down, right) in enumerate(zip(downs, rights, strict=True)):
        for row in range(height):
            for column in range(width):
                if 0 <= row - down < height and 0 <= column - right < width:
                    out[n, ..., row, column] = x[n, ..., row - down, column - right]
    return out


def slowly_cut(x: Tensor, value: float) -> Tensor:
    height, width = x.shape[-2:]
    high, wide = ((n + 1) // 2 for n in (height, width))
    tops, lefts = (
        (torch.randint(0, n + 1 - cut % 2, (len(x), 1)) - cut // 2).flatten().tolist()
        for n, cut in ((height, high), (width, wide))
    )
    out = x.clone()
    for n, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        for row in range(height):
            for column in range(width):
                if top <= row < top + high and left <= column < left + wide:
                    out[n, ..., row, column] = value
    return out


# --- twins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (10, 22)])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_gradients_are_those_of_the_slow_twin(channels, size):
    for seed in range(8):
        both = [picture(channels=channels, size=size).requires_grad_() for _ in range(2)]
        torch.manual_seed(seed)
        ours = augmented(both[0], ALL, channels, None)
        torch.manual_seed(seed)
        theirs = slowly_cut(slowly_moved(slowly_recolored(both[1]), 0), 0)
        assert isinstance(ours, Tensor)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        weights = torch.randn(ours.shape)
        grads = [
            torch.autograd.grad((made * weights).sum(), x)[0] for made, x in zip((ours, theirs), both, strict=True)
        ]
        assert grads[0].abs().sum() > 0
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    x = picture(2, size=(8, 8)).double().requires_grad_()

    def once(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        made = augmented(x, ALL, 3, None)
        assert isinstance(made, Tensor)
        return made

    assert torch.autograd.gradcheck(once, (x,))


@pytest.mark.parametrize("part", ALL)
def test_each_part_does_its_own_alone(part):
    x = picture()
    torch.manual_seed(0)
    ours = augmented(x, (part,), 3, None)
    torch.manual_seed(0)
    twin = {
        "color": slowly_recolored,
        "translation": lambda x: slowly_moved(x, 0),
        "cutout": lambda x: slowly_cut(x, 0),
    }
    torch.testing.assert_close(ours, twin[part](x), rtol=1e-5, atol=1e-6)


def test_no_policy_changes_and_draws_nothing():
    x, before = picture(), torch.get_rng_state()
    assert augmented(x, (), 3, None) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_of_the_words_does_not_matter():
    made = []
    for policy in (ALL, ALL[::-1]):
        torch.manual_seed(0)
        made.append(augmented(picture(), policy, 3, None))
    assert torch.equal(*made)


def test_paintings_in_bf16_are_augmented_too():
    x = picture()
    made = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        made.append(augmented(x.to(dtype), ALL, 3, None))
    torch.testing.assert_close(made[1].float(), made[0], atol=0.05, rtol=0)


# --- what was asked for, and the picture -----------------------------------------------------------------------------


def marked(classes: Tensor, void: int) -> Tensor:
    """A picture that shows the layout in grey, as a mark that they belong together; void is 0."""
    grey = (classes.float() + 1) / 10
    return grey.masked_fill(classes == void, 0)[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_layout_and_picture_are_moved_and_cut_alike(dtype):
    """Void and zeros stand in the same places afterwards, and every other pixel still shows its class."""
    classes, void = layouts(8, (16, 24)).to(dtype), 4
    for seed in range(5):
        torch.manual_seed(seed)
        shown = augmented((LayoutLevel(classes, 5), marked(classes, void)), ("translation", "cutout"), 3, void)
        assert isinstance(shown, tuple) and isinstance(shown[0], LayoutLevel)
        assert shown[0].classes.dtype == dtype and not torch.equal(shown[0].classes, classes)
        assert torch.equal(shown[1], marked(shown[0].classes, void))


def test_without_a_void_class_there_is_no_class_there():
    classes = layouts()
    torch.manual_seed(0)
    planes, shown = augmented((LayoutLevel(classes, 5), picture()), ("translation", "cutout"), 3, None)
    assert isinstance(planes, Tensor)
    gone = (shown == 0).all(1)
    assert gone.any() and torch.equal(planes.sum(1), (~gone).float())
    torch.manual_seed(0)
    twin = slowly_cut(slowly_moved(LayoutLevel(classes, 5).planes.contiguous(), 0), 0)
    assert torch.equal(planes, twin)


def test_layouts_as_colours_and_images_are_moved_alike_but_keep_their_colours():
    colors, image, painting = picture(seed=1), picture(channels=1, seed=2), picture(seed=3)
    torch.manual_seed(0)
    layout, planes = augmented((colors, torch.cat([image, painting], 1)), ALL, 3, 0)
    torch.manual_seed(0)
    recolored(painting)  # which draws first
    twin = slowly_cut(slowly_moved(torch.cat([colors, image], 1), 0), 0)
    assert torch.equal(torch.cat([layout, planes[:, :1]], 1), twin)
    assert not torch.equal(planes[:, 1:], slowly_cut(slowly_moved(painting, 0), 0))


# --- the paper's bounds ----------------------------------------------------------------------------------------------


def test_draws_are_the_papers_laws():
    """Brightness -0.5..0.5, contrast 0.5..1.5, saturation 0..2, all uniform: least, mean and most of many pictures."""
    torch.manual_seed(0)
    n = 20_000
    pixels = torch.tensor([[0.6, 0.0], [0.0, 0.0], [-0.6, 0.0]]).view(1, 3, 1, 2)  # colours that are 0 on average
    x = recolored(pixels.expand(n, -1, -1, -1))
    brightness = x.mean((1, 2, 3))  # which the other two leave alone
    apart = (x[:, 0] - x[:, 2])[:, 0, 0] / 1.2  # saturation times contrast
    level = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2).expand(n, 1, 1, 2)
    contrast = (lambda y: (y[..., 0] - y[..., 1]).flatten() / 2)(recolored(level))
    for values, least, most in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5)):
        assert values.min().item() == pytest.approx(least, abs=2e-3) and values.max() <= most + 1e-5
        assert values.max().item() == pytest.approx(most, abs=2e-3) and values.min() >= least - 1e-5
        assert values.mean().item() == pytest.approx((least + most) / 2, abs=0.01)
        assert values.std().item() == pytest.approx((most - least) / 12**0.5, rel=0.02)
    assert 0 <= apart.min() < 1e-3 and 2.9 < apart.max() <= 3
    assert apart.mean().item() == pytest.approx(1, abs=0.02), "they are drawn apart"


def test_an_eighth_is_the_most_that_anything_moves_and_each_place_is_as_likely():
    torch.manual_seed(0)
    x = torch.zeros(40_000, 1, 16, 24)
    x[..., 8, 12] = 1
    made = augmented(x, ("translation",), 1, None)
    assert isinstance(made, Tensor)
    counts = made.sum((0, 1))
    assert (counts > 0).nonzero().tolist() == [[r, c] for r in range(6, 11) for c in range(9, 16)]
    assert counts[6:11, 9:16].min() > 900 and counts[6:11, 9:16].max() < 1400, "40,000 / 35 = 1,143 each"
    assert (16 * TRANSLATION, 24 * TRANSLATION) == (2, 3)


def test_the_hole_is_of_half_the_size_with_its_middle_anywhere():
    torch.manual_seed(0)
    made = augmented(torch.ones(20_000, 1, 16, 24), ("cutout",), 1, None)
    assert isinstance(made, Tensor)
    holes = made[:, 0] == 0
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert (heights * widths == holes.sum((1, 2))).all(), "a rectangle"
    assert (int(heights.max()), int(widths.max())) == (16 * CUTOUT, 24 * CUTOUT) == (8, 12)
    assert (int(heights.min()), int(widths.min())) == (4, 6), "a middle at the border leaves half of it"
    expected = sum(min(m + 4, 16) - max(m - 4, 0) for m in range(17)) / 17
    assert heights.float().mean().item() == pytest.approx(expected, rel=0.01)


def test_each_picture_and_each_place_has_draws_of_its_own():
    """The paper asks for the same policy for photographs and paintings, not for the same draws (section 3.2)."""
    x = picture(1).expand(6, -1, -1, -1)
    torch.manual_seed(0)
    first, second = (augmented(x, ALL, 3, None) for _ in range(2))
    assert isinstance(first, Tensor) and isinstance(second, Tensor)
    together = [*first, *second]
    assert not any(torch.equal(a, b) for n, a in enumerate(together) for b in together[:n])


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [("colour",), ("cutout", "cutout"), "color", ("color", "flip")])
def test_unknown_parts_are_refused(policy):
    with pytest.raises(UserError, match=r"^--augment .*: must be some of color, translation, cutout, each once$"):
        check_policy("augment", policy)
    check_policy("augment", ALL)
    check_policy("augment", ())
