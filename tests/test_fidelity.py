"""PSNR, SSIM and MS-SSIM: section 8, by closed forms, slow loops and two other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from photogram.metrics.fidelity import C1, C2, MULTI_SCALE_SIDE, SCALE_WEIGHTS, ms_ssim, psnr, ssim


def photographs(height: int, width: int, n: int = 2, channels: int = 3, seed: int = 0) -> Tensor:
    """Something smooth in 0..1, with a little grain."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, height // 8 + 2, width // 8 + 2, generator=generator, dtype=torch.float64)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth + 0.02 * torch.randn(smooth.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


def noisy(images: Tensor, level: float = 0.1, seed: int = 1) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (images + level * noise).clamp(0, 1)


def test_psnr_in_closed_form():
    image = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    assert psnr(image, image + 0.1).tolist() == pytest.approx([20])  # mean squared error .01
    assert psnr(image, image + 1 / 255).tolist() == pytest.approx([48.1308], abs=1e-4)
    assert psnr(image, image).tolist() == [math.inf]


def test_psnr_is_of_each_image_over_all_its_channels():
    images = photographs(12, 16, n=3)
    others = images.clone()
    others[1, 0] += 0.3
    others[2] += 0.1
    expected = [math.inf, 10 * math.log10(1 / (0.09 / 3)), 20]
    assert psnr(images, others).tolist() == pytest.approx(expected)
    assert psnr(images.float(), others.float()).dtype == torch.float64


def plain_window() -> np.ndarray:
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line)
    return window / window.sum()


def plain_ssim(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Of one plane, window by window, with variances as means of squared deviations; and contrast and structure."""
    window, whole, contrasts = plain_window(), [], []
    for y, x in np.ndindex(a.shape[0] - 10, a.shape[1] - 10):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mp, mq = (window * p).sum(), (window * q).sum()
        vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
        vpq = (window * (p - mp) * (q - mq)).sum()
        contrasts.append((2 * vpq + C2) / (vp + vq + C2))
        whole.append((2 * mp * mq + C1) / (mp**2 + mq**2 + C1) * contrasts[-1])
    return float(np.mean(whole)), float(np.mean(contrasts))


@pytest.mark.parametrize("size", [(11, 11), (11, 30), (24, 19)])
def test_ssim_equals_a_loop_over_windows(size: tuple[int, int]):
    image, photo = photographs(*size), noisy(photographs(*size))
    expected = [
        np.mean([plain_ssim(p, q)[0] for p, q in zip(a, b, strict=True)])
        for a, b in zip(image.numpy(), photo.numpy(), strict=True)
    ]
    assert ssim(image, photo).tolist() == pytest.approx(expected, rel=1e-9)


def test_ssim_in_closed_form():
    half, more = (torch.full((1, 3, 16, 16), v, dtype=torch.float64) for v in (0.5, 0.7))
    assert ssim(half, more).tolist() == pytest.approx([(2 * 0.35 + C1) / (0.25 + 0.49 + C1)])
    assert ssim(half, more).tolist() == pytest.approx([0.94595], abs=1e-5)
    images = photographs(32, 32)
    assert ssim(images, images).tolist() == pytest.approx([1, 1], rel=1e-12)
    assert ssim(images, 1 - images).max() < 0  # structure turned around


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4])
def test_scikit_image_agrees(level: float):
    metrics = pytest.importorskip("skimage.metrics")
    image, photo = photographs(40, 56), noisy(photographs(40, 56), level)
    for ours, a, b in zip(ssim(image, photo), image, photo, strict=True):
        planes = [
            metrics.structural_similarity(
                p, q, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
            )[1][5:-5, 5:-5]
            for p, q in zip(a.numpy(), b.numpy(), strict=True)
        ]
        assert float(ours) == pytest.approx(np.mean(planes), abs=1e-4)
    theirs = [metrics.peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1) for a, b in zip(image, photo)]  # noqa: B905
    assert psnr(image, photo).tolist() == pytest.approx(theirs)


def test_torchmetrics_agrees_inside_the_border_that_it_makes_up():
    theirs = pytest.importorskip("torchmetrics.functional.image")

    def full(a: Tensor, b: Tensor) -> Tensor:
        of = {"data_range": 1.0, "reduction": "none", "return_full_image": True}
        return theirs.structural_similarity_index_measure(a, b, **of)[1][..., 5:-5, 5:-5].mean((1, 2, 3))

    image, photo = photographs(48, 40), noisy(photographs(48, 40))
    torch.testing.assert_close(ssim(image, photo), full(image, photo), rtol=0, atol=1e-4)
    decibels = theirs.peak_signal_noise_ratio(image, photo, data_range=1.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(image, photo), decibels, rtol=1e-6, atol=0)

    # Its MS-SSIM takes the last scale with that border, and the mean over channels before the powers.
    image, photo = photographs(176, 192, channels=1), noisy(photographs(176, 192, channels=1), 0.2)
    a, b, product = image, photo, torch.ones(2, dtype=torch.float64)
    for weight in SCALE_WEIGHTS[:-1]:
        of = {"data_range": 1.0, "reduction": "none", "return_contrast_sensitivity": True}
        product = product * theirs.structural_similarity_index_measure(a, b, **of)[1] ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    product = product * full(a, b) ** SCALE_WEIGHTS[-1]
    torch.testing.assert_close(ms_ssim(image, photo), product, rtol=0, atol=1e-4)


def halved(planes: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels; an odd border is repeated first."""
    planes = np.pad(planes, ((0, 0), (0, planes.shape[1] % 2), (0, planes.shape[2] % 2)), mode="symmetric")
    return (planes[:, ::2, ::2] + planes[:, 1::2, ::2] + planes[:, ::2, 1::2] + planes[:, 1::2, 1::2]) / 4


def test_ms_ssim_equals_a_loop_over_scales():
    image, photo = (x[:1] for x in (photographs(161, 165), noisy(photographs(161, 165), 0.2)))
    a, b, product = image[0].numpy(), photo[0].numpy(), np.ones(3)
    for scale in range(5):
        terms = [plain_ssim(p, q)[0 if scale == 4 else 1] for p, q in zip(a, b, strict=True)]
        product *= np.maximum(terms, 0) ** (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[scale]
        a, b = halved(a), halved(b)
    assert ms_ssim(image, photo).tolist() == pytest.approx([product.mean()], rel=1e-9)


def test_ms_ssim_in_closed_form():
    images = photographs(161, 176)
    assert ms_ssim(images, images).tolist() == pytest.approx([1, 1], rel=1e-12)
    half, more = (torch.full((1, 1, 161, 161), v, dtype=torch.float64) for v in (0.5, 0.7))
    light = (2 * 0.35 + C1) / (0.25 + 0.49 + C1)  # flat images: contrast 1, brightness at the last scale alone
    assert ms_ssim(half, more).tolist() == pytest.approx([light ** SCALE_WEIGHTS[-1]], rel=1e-9)
    assert sum(SCALE_WEIGHTS) == pytest.approx(1, abs=1e-3)
    assert ms_ssim(images, 1 - images).tolist() == [0, 0]  # a negative term counts as 0, and is no complex power


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_more_noise_is_worse_and_images_do_not_matter_to_each_other(measure):
    images = photographs(164, 164, n=3)
    levels = [measure(images, noisy(images, level)) for level in (0.02, 0.1, 0.3)]
    assert (levels[0] > levels[1]).all() and (levels[1] > levels[2]).all()
    alone = torch.cat([measure(images[n : n + 1], noisy(images, 0.1)[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(levels[1], alone, rtol=1e-10, atol=0)
    torch.testing.assert_close(measure(noisy(images, 0.1), images), levels[1], rtol=1e-10, atol=0)  # symmetric


def test_sizes_that_do_not_fit_are_refused():
    images = torch.zeros(1, 3, 200, 200)
    for measure in (psnr, ssim, ms_ssim):
        with pytest.raises(ValueError, match=r"\(1, 3, 200, 200\) does not compare with one of \(1, 3, 200, 199\)"):
            measure(images, images[..., :199])
    with pytest.raises(ValueError, match="SSIM needs more than 10 pixels a side, not 10 x 200"):
        ssim(images[:, :, :10], images[:, :, :10])
    assert MULTI_SCALE_SIDE == 160
    with pytest.raises(ValueError, match="MS-SSIM needs more than 160 pixels a side, not 200 x 160"):
        ms_ssim(images[..., :160], images[..., :160])
