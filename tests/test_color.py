"""Colours as lightness and two axes: published values, the way there and back, and paintings at full size."""

from __future__ import annotations

import pytest
import torch

from photogram.errors import UserError
from photogram.nn.color import (
    check_predict,
    colored,
    from_lab,
    grey_of,
    light_of,
    lightness_of,
    painted,
    seen_colors,
    seen_lightness,
    to_lab,
    within_srgb,
    working_size,
)
from photogram.scene import Condition, SceneSpec


def cube(side: int = 17) -> torch.Tensor:
    """All colours of a grid, [1, 3, side^2, side]."""
    steps = torch.linspace(-1, 1, side)
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(1, 3, side * side, side)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((1, -1, -1), (53.24, 80.09, 67.20)),
        ((-1, -1, 1), (32.30, 79.19, -107.86)),
        ((-1, -1, -1), (0, 0, 0)),
    ],
)
def test_published_values(rgb, lab):
    """Check 10.10."""
    found = to_lab(torch.tensor(rgb, dtype=torch.float64)[None, :, None, None])[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float64), atol=0.02, rtol=0)


def test_there_and_back_is_within_a_grey_level():
    """Check 10.10: a 17^3 cube."""
    apart = (from_lab(to_lab(cube())) - cube()).abs().max() / 2
    assert apart < 1 / 255


def test_against_an_independent_conversion():
    color = pytest.importorskip("skimage.color", reason="needs scikit-image")
    rgb = cube(9).double()
    expected = color.rgb2lab(((rgb[0] + 1) / 2).movedim(0, -1).numpy())
    torch.testing.assert_close(to_lab(rgb)[0].movedim(0, -1), torch.from_numpy(expected), atol=0.05, rtol=0)


def test_what_srgb_reaches():
    """Specification 2.9."""
    lab = to_lab(cube(33).double())
    reach = [lab[:, n].min().item() for n in (1, 2)] + [lab[:, n].max().item() for n in (1, 2)]
    assert reach == pytest.approx([-86.18, -107.86, 98.23, 94.48], abs=0.02)
    assert seen_colors(cube()).abs().max() < 0.981 and seen_lightness(cube()[:, :1]).abs().max() <= 1.00001


def test_a_grey_of_a_colour_has_its_lightness():
    torch.testing.assert_close(lightness_of(grey_of(cube())), to_lab(cube())[:, :1], atol=1e-3, rtol=0)


def test_colours_leave_the_lightness():
    """Where sRGB can show what is asked for."""
    grey = torch.rand(1, 1, 8, 9) * 1.2 - 0.6
    shown = colored(grey, 0.02 * torch.randn(1, 2, 4, 5))
    torch.testing.assert_close(to_lab(shown)[:, :1], lightness_of(grey), atol=0.01, rtol=0)
    assert (shown.amax(1) - shown.amin(1)).max() > 0.02, "it has colours"
    plain = colored(grey, torch.zeros(1, 2, 8, 9))
    torch.testing.assert_close(plain, grey.expand(-1, 3, -1, -1), atol=1e-3, rtol=0)


def test_colours_that_cannot_be_shown_become_paler_and_keep_lightness_and_hue():
    """Against a search by hand, one pixel at a time; what can be shown is left as it is."""
    torch.manual_seed(0)
    lab = torch.cat([100 * torch.rand(1, 1, 5, 7), 220 * torch.rand(1, 2, 5, 7) - 110], 1).double()
    found, beyond = within_srgb(lab), 0
    shares = torch.linspace(0, 1, 2001, dtype=torch.float64)
    for row, column in ((n // 7, n % 7) for n in range(35)):
        lightness, a, b = lab[0, :, row, column]
        tried = torch.stack([lightness.expand(2001), shares * a, shares * b])
        light = light_of(tried[None, :, :, None])[0, :, :, 0]
        fits = ((light >= -1e-5) & (light <= 1 + 1e-5)).all(0)
        beyond += not fits[-1]
        torch.testing.assert_close(found[0, :, row, column], tried[:, fits.nonzero()[-1, 0]], atol=0.15, rtol=0)
    assert 5 < beyond < 35
    torch.testing.assert_close(to_lab(from_lab(found)), found, atol=0.05, rtol=0)
    true = to_lab(cube())
    assert torch.equal(within_srgb(true), true)


def test_the_strongest_colours_leave_the_lightness():
    grey = torch.rand(1, 1, 16, 16) * 2 - 1
    shown = colored(grey, 2 * torch.rand(1, 2, 16, 16) - 1)
    torch.testing.assert_close(to_lab(shown)[:, :1], lightness_of(grey), atol=0.05, rtol=0)


def test_true_colours_give_the_photograph():
    photo = torch.rand(1, 3, 12, 16) * 2 - 1
    torch.testing.assert_close(colored(grey_of(photo), seen_colors(photo)), photo, atol=4 / 255, rtol=0)


def test_colours_are_not_for_bfloat16_to_round():
    """Networks may compute in it: what is painted keeps the lightness, and greys are greys, all the same."""
    photo = torch.rand(1, 3, 12, 16) * 2 - 1
    expected = colored(grey_of(photo), seen_colors(photo))
    with torch.autocast("cpu", torch.bfloat16):
        found = colored(grey_of(photo), seen_colors(photo))
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((256, 256), (256, 256)), ((1024, 2048), (192, 384)), ((64, 64), (64, 64)), ((90, 64), (64, 64))],
)
def test_colours_are_predicted_at_about_the_size_trained_at(size, expected):
    assert working_size(size, (256, 256), 64) == expected


def test_a_large_image_keeps_its_size_and_its_detail():
    """Check 10.10: the lightness of a large image stays."""
    grey, seen = torch.rand(1, 1, 90, 130) * 2 - 1, []

    def run(condition: Condition) -> torch.Tensor:
        assert condition.image is not None
        seen.append(condition.image)
        return torch.full((1, 2, *condition.image.shape[-2:]), 0.1)

    found = painted(run, Condition(image=grey), SceneSpec((), (32, 32), image_channels=1), 8)
    assert found.shape == (1, 3, 90, 130) and seen[0].shape == (1, 1, 24, 40) and seen[0].abs().max() <= 1.001
    assert torch.equal(found, colored(grey, torch.full((1, 2, 90, 130), 0.1)))


def test_scenes_without_grey_inputs_are_refused():
    check_predict("photo", SceneSpec((), image_channels=3))
    check_predict("ab", SceneSpec((), image_channels=1))
    with pytest.raises(UserError, match="--predict ab: colours grey images, but inputs have 3 channels"):
        check_predict("ab", SceneSpec((), image_channels=3))
