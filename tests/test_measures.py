"""Numbers with their names and intervals: slow bootstraps as twins, and what may be called FID."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from photogram.metrics.bootstrap import around, percentiles, resampled
from photogram.metrics.consistency import confusion, scores, tally
from photogram.metrics.diversity import Flicker
from photogram.metrics.features import Extractor, Seen
from photogram.metrics.frechet import frechet_of_features
from photogram.metrics.inception_score import inception_score
from photogram.metrics.kernel import discrepancy_error, kernel_distance
from photogram.metrics.measures import (
    CONSISTENCY,
    consistency_measures,
    flicker_measures,
    in_brackets,
    pair_measures,
    set_measures,
)
from photogram.metrics.protocol import Protocol
from photogram.metrics.result import Measure

PROTOCOL = Protocol("p-v1", "for tests", "val", (32, 48), resamples=200, kernel_subsets=20)


def through(name: str, how: str = "tf1", precision: str = "fp32") -> Extractor:
    """A network that is asked for its name alone."""
    return Extractor(name, "0", None, how, precision, Seen, lambda pixels: pixels)  # type: ignore[arg-type]


def seen(count: int = 24, seed: int = 0, shift: float = 0.0, logits: bool = True) -> Seen:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 30, generator=generator) + shift
    return Seen(features, 2 * torch.randn(count, 5, generator=generator) if logits else None)


def measured(extractor: Extractor) -> dict[str, Measure]:
    return set_measures(seen(), seen(seed=1, shift=0.3), extractor, PROTOCOL, resampled(24, 200, 0), [])


@pytest.mark.parametrize(
    ("network", "suffix"),
    [
        (("squeezenet", "aa", "bf16"), "squeezenet"),
        (("inception", "aa"), "inception,aa"),
        (("inception", "clean"), "inception,clean"),
        (("inception", "tf1", "bf16"), "inception,bf16"),
        (("inception", "torch", "bf16"), "inception,torch,bf16"),
        (("inception:mine",), "inception:mine"),
        (("inception:mine", "aa"), "inception:mine,aa"),
    ],
)
def test_only_the_published_measure_has_its_bare_name(network, suffix):
    assert in_brackets(through(*network)) == suffix
    found = measured(through(*network))
    assert {f"FD[{suffix}]", f"KD[{suffix}]", f"IS[{suffix}]", f"FD[{suffix}]-infinity"} <= set(found)
    assert f"precision[{suffix}]" in found and not {"FID", "KID", "IS", "FID-infinity"} & set(found)


def test_the_published_measures_are_called_so():
    found = measured(through("inception"))
    assert {"FID", "KID", "IS", "FID-infinity", "precision[inception]"} <= set(found)


def test_kid_is_the_published_estimate_and_others_leave_own_pairs_out():
    x, y = seen().features, seen(seed=1, shift=0.3).features
    settings = {"subsets": 20, "subset_size": 12, "seed": 0}
    published, paired = kernel_distance(x, y, **settings), kernel_distance(x, y, **settings, paired=True)
    assert published.distance != pytest.approx(paired.distance, rel=1e-6)
    assert measured(through("inception"))["KID"].value == published.distance
    found = measured(through("squeezenet"))["KD[squeezenet]"]
    assert found.value == paired.distance
    assert found.interval is not None
    half = (found.interval.high - found.interval.low) / 2 / 1.959964
    assert half == pytest.approx(math.hypot(discrepancy_error(x, y), paired.deviation / 20**0.5), rel=1e-9)


# Intervals.


def test_the_interval_of_the_frechet_distance_is_that_of_a_hundred_resamples():
    x, y = seen().features, seen(seed=1, shift=0.3).features
    draws = []
    for often in resampled(24, 200, 0)[:100].long():
        rows = [n for n in range(24) for _ in range(int(often[n]))]
        draws.append(frechet_of_features(x[rows], y[rows]).distance)
    found = measured(through("squeezenet"))["FD[squeezenet]"]
    expected = around(found.value, torch.tensor(draws, dtype=torch.float64))
    assert found.interval == pytest.approx(expected, rel=1e-9) and expected.high - expected.low > 1


def test_the_inception_score_has_an_interval():
    found = measured(through("inception"))["IS"]
    logits = seen().logits
    assert logits is not None and found.value == inception_score(logits).score
    assert found.interval is not None and found.interval.low < found.value < found.interval.high


@pytest.fixture
def tallies() -> dict[str, Tensor]:
    """Of eight images of four classes, of two sides."""
    generator = torch.Generator().manual_seed(0)
    asked = torch.randint(4, (8, 5, 6), generator=generator)
    found = {}
    for side, share in (("", 0.6), ("of photographs", 0.9)):
        right = torch.rand(asked.shape, generator=generator) < share
        read = torch.where(right, asked, torch.randint(4, asked.shape, generator=generator))
        pairs = zip(asked, read, strict=True)
        found[side] = torch.stack([tally(confusion(a, r, 4)) for a, r in pairs])
        found[f"{side} matrices"] = torch.stack([confusion(a, r, 4) for a, r in zip(asked, read, strict=True)])
    return found


def test_intervals_of_consistency_are_those_of_a_slow_bootstrap(tallies):
    weights = resampled(8, 200, 0)
    sides = {side: counts for side, counts in tallies.items() if "matrices" not in side}
    measures, _, _ = consistency_measures(sides, list("abcd"), weights)
    for side in sides:
        matrices = tallies[f"{side} matrices"]
        draws = []
        for often in weights.long():
            whole = torch.zeros(4, 4, dtype=torch.int64)
            for matrix, times in zip(matrices, often.tolist(), strict=True):
                whole += times * matrix
            draws.append(scores(whole))
        for key in CONSISTENCY:
            expected = percentiles(torch.tensor([getattr(d, key) for d in draws], dtype=torch.float64))
            found = measures[f"{key} {side}".strip()].interval
            assert found == pytest.approx(expected, rel=1e-12) and expected.high - expected.low > 0.01


def test_resamples_and_images_without_pixels_are_left_out(tallies):
    counts = tallies[""][:2].clone()
    counts[0] = 0  # an image that is all void
    measures, _, each = consistency_measures({"": counts}, list("abcd"), resampled(2, 50, 0))
    interval = measures["mean_iou"].interval
    assert interval is not None and interval.low == pytest.approx(interval.high)  # of the other image alone
    assert each["mean_iou"].isnan().tolist() == [True, False]


def test_means_over_images_say_how_they_spread():
    values = torch.tensor([1.0, 2.0, math.inf, 6.0]).double()
    found = pair_measures({"PSNR": values}, resampled(4, 300, 0))["PSNR"]
    assert (found.value, found.median) == (3, 2) and found.deviation == pytest.approx(7**0.5)
    assert found.about.endswith("; 1 infinite ones are left out") and found.interval is not None
    plain = pair_measures({"PSNR": values[:2]}, resampled(2, 300, 0))["PSNR"]
    assert "left out" not in plain.about
    none = pair_measures({"PSNR": values[2:3]}, resampled(1, 300, 0))["PSNR"]
    assert math.isinf(none.value) and none.interval is None and none.median is None


def test_the_interval_of_flicker_is_over_pairs_of_frames():
    change = Flicker(torch.tensor([1.0, math.nan, 2.0, 4.0]).double(), torch.tensor([5.0, 6.0, 7.0, 8.0]).double())
    found = flicker_measures(change, PROTOCOL)
    draws = []
    for often in resampled(4, 200, 0).long().tolist():
        rows = [value for value, n in zip([1.0, None, 2.0, 4.0], often, strict=True) for _ in range(n) if value]
        draws.append(sum(rows) / len(rows) if rows else math.nan)
    assert found["flicker"].value == pytest.approx(7 / 3)
    assert found["flicker"].interval == pytest.approx(percentiles(torch.tensor(draws, dtype=torch.float64)), rel=1e-12)
    assert found["flicker of photographs"].value == 6.5 and found["flicker of photographs"].better == ""
