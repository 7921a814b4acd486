"""Judging folders of images, from the measures to the command line; offline, on the toy world."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from photogram.cli import main
from photogram.data.folder import Folder
from photogram.data.toy import write_toy
from photogram.errors import UserError
from photogram.images import write_image
from photogram.judging import Asked, compare, judge
from photogram.metrics import evaluate as evaluation
from photogram.metrics.evaluate import Judges, evaluate, look
from photogram.metrics.features import load_extractor
from photogram.metrics.lpips import load_lpips
from photogram.metrics.pictures import Pictures
from photogram.metrics.protocol import Protocol
from photogram.metrics.reals import Reals, reals_of
from photogram.metrics.result import Result, read_result
from photogram.recipes import load
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.scene import SceneSpec

SIZE = (48, 64)
PROTOCOL = Protocol("toy-v1", "The toy world.", "val", SIZE, resamples=50, ignored=("unlabelled",))
COUNT = 24


class Painter:
    """Reads a photograph by the nearest of the mean colours that classes have in it: knows the layouts, so to say."""

    def __init__(self, reals: Reals):
        self.spec = reals.spec
        pixels, labels = (
            np.concatenate([a.reshape(-1, *a.shape[2:]) for a in map(read, range(COUNT))])
            for read in (reals.photo, reals.layout)
        )
        means = [
            pixels[labels == k].mean(0) if (labels == k).any() else np.full(3, 999.0)
            for k in range(reals.spec.num_classes)
        ]
        self.means = torch.tensor(np.stack(means), dtype=torch.float32)

    def predict(self, photo: torch.Tensor) -> torch.Tensor:
        pixels = (photo.movedim(1, -1) + 1) * 127.5
        return (pixels[..., None, :] - self.means).square().sum(-1).argmin(-1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data", size=SIZE, train=4, val=COUNT, quiet=True)


@pytest.fixture(scope="module")
def protocol(data) -> Protocol:
    void = [c.name for c in Folder(data, "val").classes if c.void]
    return replace(PROTOCOL, ignored=tuple(void))


@pytest.fixture(scope="module")
def reals(data, protocol) -> Reals:
    return reals_of(data, protocol, quiet=True)


@pytest.fixture(scope="module")
def judges(reals) -> Judges:
    return Judges(load_extractor("squeezenet"), load_lpips(), Painter(reals), "painter")


def folder(where: Path, reals: Reals, change: Any = lambda pixels, n: pixels) -> Pictures:
    where.mkdir(parents=True, exist_ok=True)
    for n, (name, photo) in enumerate(zip(reals.names, map(reals.photo, range(COUNT)), strict=True)):
        write_image(np.asarray(change(photo, n)), where / f"{name}.png")
    return Pictures(where)


def blurred(radius: float):
    return lambda pixels, n: Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))


def compressed(quality: int):
    """As JPEG stores it."""

    def change(pixels: np.ndarray, n: int) -> np.ndarray:
        stored = io.BytesIO()
        Image.fromarray(pixels).save(stored, "JPEG", quality=quality)
        return np.asarray(Image.open(stored))

    return change


def values(result: Result) -> dict[str, float]:
    return {name: measure.value for name, measure in result.measures.items()}


@pytest.fixture(scope="module")
def ladder(tmp_path_factory, reals, protocol, judges) -> dict[str, Result]:
    """The photographs themselves, and what is ever further from them."""
    noise = np.random.default_rng(0)
    changes = {
        "same": lambda pixels, n: pixels,
        "blurred": blurred(0.7),
        "more": blurred(2.0),
        "noisy": lambda pixels, n: np.clip(pixels + noise.normal(0, 25, pixels.shape), 0, 255).astype(np.uint8),
        "jpeg": compressed(60),
        "artefacts": compressed(10),
        "one": lambda pixels, n: reals.photo(0),
        "others": lambda pixels, n: reals.photo((n + COUNT // 2) % COUNT),
    }
    out = tmp_path_factory.mktemp("ladder")
    made = {}
    for name, change in changes.items():
        made[name] = evaluate(folder(out / name, reals, change), reals, protocol, judges, name=name, quiet=True)
    return made


# --- what the numbers say --------------------------------------------------------------------------------------------


def test_photographs_against_themselves(ladder):
    same, found = ladder["same"], values(ladder["same"])
    assert found["LPIPS[squeeze]"] == 0 and found["SSIM"] == pytest.approx(1) and math.isinf(found["PSNR"])
    assert abs(found["FD[squeezenet]"]) < 1e-6 and abs(found["KD[squeezenet]"]) < 1e-6
    assert found["precision[squeezenet]"] == found["recall[squeezenet]"] == found["coverage[squeezenet]"] == 1
    assert found["mean_iou"] == found["mean_iou of photographs"]
    assert any("nothing here was generated" in warning for warning in same.warnings)
    assert not any("generated" in w for w in ladder["blurred"].warnings)


@pytest.mark.parametrize("worse", [("same", "blurred", "more"), ("same", "noisy"), ("same", "jpeg", "artefacts")])
def test_what_is_further_away_measures_so(ladder, worse):
    steps = [values(ladder[name]) for name in worse]
    for name, sign in (("LPIPS[squeeze]", 1), ("FD[squeezenet]", 1), ("KD[squeezenet]", 1), ("SSIM", -1), ("PSNR", -1)):
        numbers = [sign * step[name] for step in steps]
        assert numbers == sorted(numbers) and numbers[0] < numbers[-1], name


def test_one_image_again_and_again_is_not_varied(ladder):
    found = values(ladder["one"])
    assert found["recall[squeezenet]"] < 0.2 and found["precision[squeezenet]"] == 1
    assert found["coverage[squeezenet]"] < values(ladder["same"])["coverage[squeezenet]"]


def test_photographs_of_other_layouts_are_perfect_as_a_set_and_inconsistent(ladder):
    found = values(ladder["others"])
    assert abs(found["FD[squeezenet]"]) < 1e-6 and found["precision[squeezenet]"] == 1
    assert found["mean_iou"] < 0.7 * found["mean_iou of photographs"]
    assert found["mean_iou of shuffled layouts"] == pytest.approx(values(ladder["same"])["mean_iou"])


def test_what_the_segmenter_reads_stands_between_two_kinds_of_chance(ladder):
    """Shuffled layouts are a bound for the paintings, and another for photographs."""
    same, noisy = values(ladder["same"]), values(ladder["noisy"])
    for key in ("mean_iou", "pixel_accuracy", "class_accuracy", "weighted_iou"):
        side = f"{key} of photographs, shuffled layouts"
        assert same[side] == pytest.approx(same[f"{key} of shuffled layouts"])  # photographs were judged
        assert noisy[side] == same[side] < same[f"{key} of photographs"]
        assert noisy[f"{key} of shuffled layouts"] != noisy[side]
    assert "IoU of photographs, shuffled layouts" in ladder["noisy"].per_class


def test_every_number_has_an_interval_that_holds_it(ladder):
    for result in (ladder["blurred"], ladder["noisy"]):
        assert "IS[squeezenet]" in result.measures
        for name, measure in result.measures.items():
            assert measure.interval is not None, name
            low, high = measure.interval
            assert "infinity" in name or (low <= measure.value + 1e-9 and measure.value - 1e-9 <= high), name


def test_few_images_are_a_warning(ladder):
    said = "; ".join(ladder["noisy"].warnings)
    assert f"only {COUNT} images" in said and "read the kernel distance" in said
    assert "no MS-SSIM: it needs 161 pixels a side or more, and images are 48 x 64" in said and "no SSIM" not in said


def test_every_number_says_what_it_is_and_carries_its_network(ladder):
    for name, measure in ladder["noisy"].measures.items():
        assert measure.about and measure.better in ("higher", "lower", "")
        assert "FID" not in name and "KID" not in name  # those are of Inception alone
    assert set(ladder["noisy"].per_image) >= {"LPIPS[squeeze]", "SSIM", "PSNR", "mean_iou", "pixel_accuracy"}
    assert all(len(row) == COUNT for row in ladder["noisy"].per_image.values())


def test_batches_do_not_matter(tmp_path, reals, protocol, judges, monkeypatch):
    pictures = folder(tmp_path, reals, blurred(1.0))
    found = []
    for size in (1, 7, 24):
        monkeypatch.setattr(evaluation, "BATCH", size)
        found.append(values(evaluate(pictures, reals, protocol, judges, name="x", quiet=True)))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4, abs=1e-6)


def test_the_same_call_gives_the_same_numbers(tmp_path, reals, protocol, judges):
    pictures = folder(tmp_path, reals, blurred(1.0))
    first, second = (evaluate(pictures, reals, protocol, judges, name="x", quiet=True) for _ in range(2))
    assert first == second


def test_known_features_of_reals_are_used(tmp_path, reals, protocol, judges):
    pictures = folder(tmp_path, reals, blurred(1.0))
    known = look(reals.photo, COUNT, judges.extractor, "reals", True)
    plain = evaluate(pictures, reals, protocol, judges, name="x", quiet=True)
    assert evaluate(pictures, reals, protocol, judges, name="x", real_features=known, quiet=True) == plain
    moved = known._replace(features=known.features + 1)
    other = evaluate(pictures, reals, protocol, judges, name="x", real_features=moved, quiet=True)
    assert values(other)["FD[squeezenet]"] > values(plain)["FD[squeezenet]"]


# --- at the door -----------------------------------------------------------------------------------------------------


def test_missing_and_odd_images(tmp_path, reals, protocol, judges):
    pictures = folder(tmp_path, reals)
    (tmp_path / f"{reals.names[3]}.png").unlink()
    with pytest.raises(UserError, match=f"has no image '{reals.names[3]}' \\(1 of {COUNT} are missing\\)"):
        evaluate(Pictures(tmp_path), reals, protocol, judges, name="x", quiet=True)
    write_image(np.zeros((10, 10, 3), np.uint8), tmp_path / f"{reals.names[3]}.png")
    with pytest.raises(UserError, match="is 10 x 10, but the protocol judges 48 x 64"):
        evaluate(pictures, reals, protocol, judges, name="x", quiet=True)


def test_other_scenes_than_the_protocols_are_refused(data, protocol, reals):
    assert reals_of(data, replace(protocol, scenes=reals.scenes_digest), quiet=True).names == reals.names
    with pytest.raises(UserError, match="its val layouts at 48 x 64 are not those of toy-v1"):
        reals_of(data, replace(protocol, scenes="0" * 64), quiet=True)
    with pytest.raises(UserError, match=f"val has {COUNT} photographs, but toy-v1 judges 99"):
        reals_of(data, replace(protocol, count=99), quiet=True)
    assert len(reals_of(data, replace(protocol, count=5), quiet=True).names) == 5


def test_an_ignored_class_that_is_not_there(data, protocol):
    with pytest.raises(UserError, match="ignores the class 'sea', but the data has"):
        reals_of(data, replace(protocol, ignored=("sea",)), quiet=True)


def test_too_few_scenes_for_a_distance(data, protocol):
    with pytest.raises(UserError, match="toy-v1 judges 3 scenes of val; distances between sets need 4 or more"):
        reals_of(data, replace(protocol, count=3), quiet=True)


def test_four_scenes_are_enough(tmp_path, data, protocol, judges):
    few = replace(protocol, count=4)
    four = reals_of(data, few, quiet=True)
    for name in four.names:
        write_image(four.photo(four.names.index(name)) // 2, tmp_path / f"{name}.png")
    found = evaluate(Pictures(tmp_path), four, few, judges, name="x", quiet=True)
    assert all(math.isfinite(value) for value in values(found).values())


def test_the_hash_of_the_photographs_is_of_the_photographs(tmp_path, data, protocol, reals):
    shutil.copytree(data, tmp_path / "data")
    path = next((tmp_path / "data" / "val" / "photos").glob(f"{reals.names[-1]}.*"))
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    write_image(pixels, path)
    other = reals_of(tmp_path / "data", protocol, quiet=True)
    assert other.scenes_digest == reals.scenes_digest and other.digest != reals.digest


def test_images_that_are_the_photographs_are_counted(tmp_path, reals, protocol, judges):
    pictures = folder(tmp_path, reals, lambda pixels, n: pixels if n % 3 else 255 - pixels)
    found = evaluate(pictures, reals, protocol, judges, name="x", quiet=True)
    assert any("16 of 24 images are the photographs that they are judged against" in w for w in found.warnings)
    psnr = found.measures["PSNR"]
    assert psnr.about.endswith("16 infinite ones are left out") and math.isfinite(psnr.value)
    assert psnr.value == pytest.approx(np.mean([v for v in found.per_image["PSNR"] if math.isfinite(v)]))


@pytest.fixture
def half_void(tmp_path, data) -> Path:
    """The left half of every layout is void; of the first, all of it."""
    shutil.copytree(data, tmp_path / "void")
    void = next(n for n, c in enumerate(Folder(data, "val").classes) if c.void)
    for n, path in enumerate(sorted((tmp_path / "void" / "val" / "layouts").iterdir())):
        classes = np.array(Image.open(path))
        classes[:, : None if n == 0 else SIZE[1] // 2] = void
        write_image(classes, path)
    return tmp_path / "void"


def test_void_never_counts(tmp_path, half_void, protocol, judges):
    found = []
    for ignored in ((), ("unlabelled",)):
        asked_for = replace(protocol, ignored=ignored)
        reals = reals_of(half_void, asked_for, quiet=True)
        pictures = folder(tmp_path / "images", reals, blurred(1.0))
        found.append(values(evaluate(pictures, reals, asked_for, judges, name="x", quiet=True)))
    assert found[0] == found[1] and found[0]["pixel_accuracy"] > 0.3


def test_a_layout_that_is_all_void_has_no_score(tmp_path, half_void, protocol, judges):
    """With four scenes, some resamples are of that one alone."""
    few = replace(protocol, count=4, resamples=1000)
    reals = reals_of(half_void, few, quiet=True)
    folder(tmp_path / "images", reals_of(half_void, protocol, quiet=True), blurred(1.0))
    found = evaluate(Pictures(tmp_path / "images"), reals, few, judges, name="x", quiet=True)
    assert math.isnan(found.per_image["mean_iou"][0]) and math.isfinite(found.per_image["mean_iou"][1])
    interval = found.measures["mean_iou"].interval
    assert interval is not None and 0 <= interval.low <= interval.high <= 1


def test_where_all_is_ignored_there_is_no_consistency(tmp_path, reals, protocol, judges):
    all_of_them = replace(protocol, ignored=tuple(c.name for c in reals.spec.classes))
    pictures = folder(tmp_path, reals, blurred(1.0))
    found = evaluate(pictures, reals, all_of_them, judges, name="x", quiet=True)
    assert not any("iou" in name for name in found.measures) and found.measures["LPIPS[squeeze]"].value > 0
    assert any("no segmentation consistency: no pixel of the layouts counts" in w for w in found.warnings)


# --- runs and folders ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks(tmp_path_factory, data) -> Path:
    """A generator and a segmenter that have learned nothing."""
    out = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    spec = SceneSpec(Folder(data, "val").classes, SIZE)
    CascadedRefinementNetwork(spec=spec, widths=(8, 8)).save_pretrained(out / "painter")
    CascadedRefinementNetwork(spec=spec, widths=(4,)).save_pretrained(out / "other")
    SegmentationNetwork(spec=spec, width=16).save_pretrained(out / "segmenter")
    return out


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("PHOTOGRAM_CACHE", str(tmp_path_factory.mktemp("cache")))


def asked(data: Path, protocol: Protocol, out: Path, *subjects: Path, **more: Any) -> Asked:
    return Asked(tuple(subjects), protocol, data, out, load, quiet=True, **more)


def test_a_run_is_judged_as_the_folder_that_it_paints(tmp_path, data, protocol, networks):
    run = judge(asked(data, protocol, tmp_path / "a", networks / "painter"))
    (painted,) = (tmp_path / "a" / "painter" / "seed-0").iterdir()
    images = judge(asked(data, protocol, tmp_path / "b", painted))
    assert values(run.results[0]) == values(images.results[0])
    stored = read_result(tmp_path / "a" / "painter" / "result.json")
    assert values(stored) == values(run.results[0]) and stored.protocol == protocol


def test_repeats_give_a_number_for_each_seed(tmp_path, data, protocol, networks):
    found = judge(asked(data, protocol, tmp_path, networks / "painter", repeats=3)).results[0]
    assert all(len(numbers.values) == 3 for numbers in found.repeats.values())
    assert found.repeats["LPIPS[squeeze]"].values[0] == found.measures["LPIPS[squeeze]"].value
    distances = found.repeats["KD[squeezenet]"]
    assert len(set(distances.values)) == 3  # other subsets
    assert distances.mean == pytest.approx(np.mean(distances.values))
    assert distances.deviation == pytest.approx(np.std(distances.values, ddof=1))
    stored = json.loads((tmp_path / "painter" / "result.json").read_text())["repeats"]["KD[squeezenet]"]
    assert stored == {"values": distances.values, "mean": distances.mean, "deviation": distances.deviation}
    with pytest.raises(UserError, match="--repeats 0: must be 1 or more"):
        judge(asked(data, protocol, tmp_path, networks / "painter", repeats=0))


def test_a_segmenter_is_loaded_and_checked(tmp_path, data, protocol, networks):
    found = judge(asked(data, protocol, tmp_path, networks / "painter", segmenter=networks / "segmenter")).results[0]
    assert 0 <= found.measures["mean_iou"].value <= 1 and found.provenance["segmenter"]
    with pytest.raises(UserError, match="holds a CascadedRefinementNetwork, which does not read photographs"):
        judge(asked(data, protocol, tmp_path, networks / "painter", segmenter=networks / "painter"))
    with pytest.raises(UserError, match="holds a SegmentationNetwork, which paints nothing"):
        judge(asked(data, protocol, tmp_path / "c", networks / "segmenter"))
    pinned = replace(protocol, segmenter_sha256="0" * 64)
    with pytest.raises(UserError, match="but toy-v1 reads with 000000000000"):
        judge(asked(data, pinned, tmp_path, networks / "painter", segmenter=networks / "segmenter"))
    with pytest.raises(UserError, match="but toy-v1 looks through 000000000000"):
        judge(asked(data, replace(protocol, trunk_sha256="0" * 64), tmp_path, networks / "painter"))


def test_a_protocols_segmenter_is_sought_beside_its_file(tmp_path, data, protocol, networks, monkeypatch):
    """Whatever the folder is that one stands in."""
    where = tmp_path / "mine"
    where.mkdir()
    shutil.copytree(networks / "segmenter", where / "reader")
    (where / "own.json").write_text(json.dumps({**protocol.to_json(), "name": "own-v1", "segmenter": "reader"}))
    monkeypatch.chdir(tmp_path)
    more = {"data": data, "out": tmp_path / "out", "quiet": True}
    found = compare([networks / "painter"], load, protocol="mine/own.json", **more).results[0]
    assert "mean_iou" in found.measures
    (where / "reader").rename(where / "elsewhere")
    with pytest.raises(UserError, match="mine/reader"):
        compare([networks / "painter"], load, protocol="mine/own.json", **more)


def test_images_of_no_layout_are_mentioned(tmp_path, data, protocol, reals):
    folder(tmp_path / "images", reals, blurred(1))
    write_image(np.zeros((4, 4, 3), np.uint8), tmp_path / "images" / "stranger.png")
    found = judge(asked(data, protocol, tmp_path / "out", tmp_path / "images")).results[0]
    assert any("1 images of" in warning and "stranger" in warning for warning in found.warnings)


def test_subjects_of_one_name_are_told_apart(tmp_path, data, protocol, reals):
    for where in ("x", "y"):
        folder(tmp_path / where / "images", reals, blurred(1 if where == "x" else 2))
    judged = judge(asked(data, protocol, tmp_path / "out", tmp_path / "x" / "images", tmp_path / "y" / "images"))
    assert [r.subject["name"] for r in judged.results] == ["x-images", "y-images"]
    with pytest.raises(UserError, match="two of what is to be judged have this name"):
        judge(asked(data, protocol, tmp_path / "out", tmp_path / "x" / "images", tmp_path / "x" / "images"))


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path, protocol) -> str:
    (tmp_path / "toy.json").write_text(json.dumps(protocol.to_json()))
    return str(tmp_path / "toy.json")


def test_the_command_prints_a_table_and_writes_a_result(tmp_path, data, networks, file, protocol, capsys):
    out = tmp_path / "out"
    assert (
        main(["evaluate", str(networks / "painter"), "--protocol", file, "--data", str(data), "--out", str(out)]) == 0
    )
    printed = capsys.readouterr()
    assert "KD[squeezenet]" in printed.out and "LPIPS[squeeze]" in printed.out and "toy-v1" in printed.out
    assert f"only {COUNT} images" in printed.err
    assert (out / protocol.name / "painter" / "result.json").is_file() and not (
        out / protocol.name / "evaluation.html"
    ).exists()


def test_systems_side_by_side(tmp_path, data, networks, file, protocol, capsys):
    out = tmp_path / "out"
    command = ["evaluate", str(networks / "painter"), str(networks / "other"), "--protocol", file]
    assert main([*command, "--data", str(data), "--out", str(out), "--segmenter", str(networks / "segmenter")]) == 0
    printed = capsys.readouterr().out
    assert "other minus painter" in printed and "IoU by class" in printed
    page = (out / protocol.name / "evaluation.html").read_text()
    assert (
        "other minus painter" in page and "data:image/png;base64," in page and "http" not in page.split("data:image")[0]
    )
    with Image.open(out / protocol.name / "differ.png") as contact:
        assert contact.size[0] > 4 * SIZE[1]


def test_stored_results_are_compared_as_they_are(tmp_path, data, networks, file, protocol, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "--protocol", file, "--data", str(data), "--out", str(out)]
    assert main([*command, str(networks / "painter")]) == 0
    first = out / protocol.name / "painter" / "result.json"
    assert main([*command, str(networks / "other"), str(first)]) == 0  # beside what is judged now
    assert "painter minus other" in capsys.readouterr().out
    second = out / protocol.name / "other" / "result.json"
    assert main(["evaluate", str(first), str(second)]) == 0  # alone: no protocol, no data, nothing judged
    printed = capsys.readouterr().out
    assert "other minus painter" in printed and "written" not in printed
    changed = json.loads(second.read_text())
    changed["protocol"]["size"] = [96, 128]
    second.write_text(json.dumps(changed))
    assert main(["evaluate", str(first), str(second)]) == 1
    assert "painter and other do not compare: the protocol's size is" in capsys.readouterr().err
    assert main(["evaluate", str(networks / "painter"), "--data", str(data)]) == 2
    assert "to judge it, give --protocol NAME and --data DIR" in capsys.readouterr().err


def test_brackets_are_judged_beside(tmp_path, networks, protocol, capsys):
    few = write_toy(tmp_path / "data", size=SIZE, train=8, val=8, quiet=True)
    (tmp_path / "few.json").write_text(json.dumps(protocol.to_json()))
    command = ["evaluate", str(networks / "painter"), "--protocol", str(tmp_path / "few.json"), "--brackets"]
    assert main([*command, "--data", str(few), "--out", str(tmp_path / "out")]) == 0
    results = {
        name: read_result(tmp_path / "out" / protocol.name / name / "result.json")
        for name in ("painter", "random-photographs", "retrieval")
    }
    found = {name: values(result) for name, result in results.items()}
    assert found["random-photographs"]["FD[squeezenet]"] < found["painter"]["FD[squeezenet]"]
    assert found["retrieval"]["LPIPS[squeeze]"] < found["painter"]["LPIPS[squeeze]"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: [*c[:1], "--protocol", *c[3:]], "there is nothing to judge"),
        (lambda c: [c[0], "nowhere", *c[2:]], "nowhere: no such folder"),
        (lambda c: [c[0], c[1], "--protocol", "none", *c[4:]], "unknown protocol 'none'"),
        (lambda c: [*c[:-1], "nodata"], "nodata: no such folder"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, data, networks, file, capsys, change, words):
    command = [
        "evaluate",
        str(networks / "painter"),
        "--protocol",
        file,
        "--out",
        str(tmp_path / "o"),
        "--data",
        str(data),
    ]
    assert main(change(command)) == 1
    said = capsys.readouterr().err.strip()
    assert words in said and "Traceback" not in said


def test_a_subject_that_is_none_is_found_before_another_is_judged(tmp_path, data, protocol, networks):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "result.json").write_text("{}")
    for name in ("a_to_b", "b_to_a"):
        shutil.copytree(networks / "painter", tmp_path / "cyclegan" / name)
    for wrong, words in (
        (tmp_path / "nowhere", "nowhere: no such folder"),
        (networks / "segmenter", "holds a SegmentationNetwork, which paints nothing"),
        (tmp_path / "results", r"is a folder of results; give .*result\.json"),
        (tmp_path / "cyclegan", r"holds several published networks; give one: .*cyclegan/a_to_b, .*cyclegan/b_to_a"),
    ):
        with pytest.raises(UserError, match=words):
            judge(asked(data, protocol, tmp_path / "out", networks / "painter", wrong))
        assert not (tmp_path / "out").exists()
