"""Bulk synthesis: what is painted, what is skipped, what is refused, and that nothing else decides about the pixels."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from photogram import paintings, synthesis
from photogram import sheets as sheets_room
from photogram.cli import main
from photogram.collecting import Item, collect
from photogram.errors import UserError
from photogram.generator import Generator
from photogram.images import read_labels, read_photo, resize_labels
from photogram.metrics.pictures import Pictures
from photogram.nn import kept_weights
from photogram.nn.kept_weights import KeptWeights
from photogram.paintings import Place
from photogram.recipes.crn import CascadedRefinementNetwork, Choice
from photogram.recipes.segmenter import SegmentationNetwork
from photogram.scene import Condition, Layout, SceneClass, SceneSpec, Size, to_pixels
from photogram.synthesis import Interrupted, Summary, item_seed, synthesize

CLASSES = (
    SceneClass("sky", (70, 130, 180)),
    SceneClass("road", (128, 64, 128)),
    SceneClass("unlabelled", (0, 0, 0), void=True),
)
SPEC = SceneSpec(CLASSES, size=(16, 32))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Paintings of this size gain nothing from more, and lose much where the processors are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def painter() -> CascadedRefinementNetwork:
    torch.manual_seed(0)
    network = CascadedRefinementNetwork(spec=SPEC, widths=(8, 8, 8))
    with torch.no_grad():  # a network as it starts paints greys; the tests want to see differences
        network.to_rgb.weight.mul_(8)
    return network


class Speckle(Generator):
    """Paints nothing but its noise, in grey."""

    def __init__(self, *, spec: SceneSpec):
        super().__init__()
        self.spec = spec
        self.gain = torch.nn.Parameter(torch.ones(()))

    @property
    def size_multiple(self) -> int:
        return 1

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Float[Tensor, "n c h w"]:
        assert condition.size is not None
        return self.gain * (2 * torch.rand(1, 1, *condition.size, generator=noise) - 1)


def a_layout(seed: int, size: tuple[int, int] = (16, 32)) -> np.ndarray:
    return (
        np.random.default_rng(seed)
        .integers(0, 3, (size[0] // 4 + 1, size[1] // 4 + 1), np.uint8)
        .repeat(4, 0)
        .repeat(4, 1)[: size[0], : size[1]]
    )


def put(pixels: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def layouts(tmp_path: Path) -> Path:
    for n in range(6):
        put(a_layout(n), tmp_path / "data" / "layouts" / f"{n:04}.png")
    return tmp_path / "data" / "layouts"


def paint(network: Generator, layouts: Path | list[Path], out: Path, **options: object) -> Summary:
    inputs = collect(layouts if isinstance(layouts, list) else [layouts])
    return synthesize(network, inputs, out, **{"precision": "fp32", "quiet": True, **options})  # pyright: ignore


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("[!.]*")) if p.is_file()}


def times(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.glob("0*")}


# What is painted


def test_paints_what_sample_paints(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    summary = paint(painter, layouts, tmp_path / "out")
    assert (summary.painted, summary.skipped, summary.failed, summary.precision) == (6, 0, 0, "fp32")
    for n in range(6):
        path = layouts / f"{n:04}.png"
        found = read_photo(tmp_path / "out" / path.name)
        plain = to_pixels(painter.sample(Layout.open(path), item_seed(0, path.stem))[0]).numpy()
        assert np.abs(found.astype(int) - plain).max() <= 1, "packed weights may round otherwise, by processor"
        with synthesis.ready_to_paint(painter, "fp32"):
            expected = to_pixels(painter.sample(Layout.open(path), item_seed(0, path.stem))[0]).numpy()
        np.testing.assert_array_equal(found, expected)
    assert len(set(contents(tmp_path / "out").values())) == 7


def test_the_same_seed_gives_the_same_bytes(layouts: Path, tmp_path: Path) -> None:
    """Whatever the order, the selection, and the way to name the inputs."""
    speckle = Speckle(spec=SPEC)
    paint(speckle, layouts, tmp_path / "all", seed=7)
    backwards = sorted(layouts.iterdir(), reverse=True)
    paint(speckle, backwards[:4], tmp_path / "some", seed=7)
    everything, some = contents(tmp_path / "all"), contents(tmp_path / "some")
    assert set(some) == {"synthesis.json", *(p.name for p in backwards[:4])}
    assert all(everything[name] == data for name, data in some.items())
    assert len(set(everything.values())) == len(everything), "two paintings have the same noise"
    paint(speckle, layouts, tmp_path / "other", seed=8)
    assert all(everything[n] != data for n, data in contents(tmp_path / "other").items())


def test_a_fresh_process_gives_the_same_bytes(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path
) -> None:
    painter.save_pretrained(tmp_path / "net")
    paint(painter, layouts, tmp_path / "here", source=tmp_path / "net", seed=3)
    there = (
        "import sys; from photogram.recipes import load; from photogram.synthesis import collect, synthesize\n"
        "net, layouts, out = sys.argv[1:]\n"
        "synthesize(load(net), collect([layouts]), out, source=net, seed=3, precision='fp32', quiet=True)"
    )
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run(
        [sys.executable, "-c", there, tmp_path / "net", layouts, tmp_path / "there"], check=True, env=threads
    )
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    record = json.loads((tmp_path / "here" / "synthesis.json").read_text())
    weights = hashlib.sha256((tmp_path / "net" / "model.safetensors").read_bytes()).hexdigest()
    assert record == {
        "network": weights,
        "seed": 3,
        "size": [16, 32],
        "format": "png",
        "precision": "fp32",
        "options": {"candidates": 0, "mix": "", "feather": 2.0},
        "compile": False,
        "source": str(tmp_path / "net"),
    }


def test_seeds_of_items() -> None:
    seeds = {item_seed(seed, stem) for seed in range(4) for stem in ("a", "b", "\udcff")}
    assert len(seeds) == 12 and all(0 <= seed < 2**63 for seed in seeds)
    assert item_seed(0, "0007") == int(hashlib.sha256(b"0/0007").hexdigest()[:16], 16) >> 1


def test_equal_stems_in_two_folders_have_noise_of_their_own(tmp_path: Path) -> None:
    speckle, files = Speckle(spec=SPEC), [tmp_path / "city" / town / "0.png" for town in ("a", "b")]
    for file in files:
        put(a_layout(0), file)
    paint(speckle, [tmp_path / "city"], tmp_path / "out", seed=3)
    a, b = (read_photo(tmp_path / "out" / town / "0.png")[..., :1] for town in ("a", "b"))
    assert (a != b).mean() > 0.9
    layout = Layout.open(files[1])
    np.testing.assert_array_equal(b, to_pixels(speckle.sample(layout, item_seed(3, "b/0"))[0]).numpy())


@pytest.mark.parametrize("size", [(17, 33), (5, 6), (1, 1), (40, 24)])
def test_native_sizes_are_padded_and_cropped(
    painter: CascadedRefinementNetwork, size: tuple[int, int], tmp_path: Path
) -> None:
    """The padding is void where there is such a class: the slow way does the same by hand."""
    layout = a_layout(1, size)
    path = put(layout, tmp_path / "layouts" / "odd.png")
    paint(painter, [path], tmp_path / "out", size="native")
    painted = read_photo(tmp_path / "out" / "odd.png")
    assert painted.shape == (*size, 3)
    whole = np.full((-(-size[0] // 4) * 4, -(-size[1] // 4) * 4), 2, np.uint8)
    whole[: size[0], : size[1]] = layout
    with torch.inference_mode():
        photo = painter(Layout(torch.from_numpy(whole)[None]))[:, 0].clamp(-1, 1)
    np.testing.assert_array_equal(painted, to_pixels(photo[0]).numpy()[: size[0], : size[1]])


@pytest.mark.parametrize(("asked", "size"), [(None, (16, 32)), ((9, 21), (9, 21)), ((64, 32), (64, 32))])
def test_layouts_are_resized_by_the_nearest_rule(
    painter: CascadedRefinementNetwork, asked: tuple[int, int] | None, size: tuple[int, int], tmp_path: Path
) -> None:
    path = put(a_layout(2, (37, 50)), tmp_path / "layouts" / "large.png")
    paint(painter, [path], tmp_path / "out", size=asked)
    resized = torch.from_numpy(resize_labels(read_labels(path), size))[None]
    expected = to_pixels(painter.sample(Layout(resized))[0]).numpy()
    np.testing.assert_array_equal(read_photo(tmp_path / "out" / "large.png"), expected)


def test_16_bit_and_palette_layouts_paint_alike(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    layout = a_layout(4)
    put(layout, tmp_path / "layouts" / "grey.png")
    put(layout.astype(np.uint16), tmp_path / "layouts" / "wide.png")
    palette = Image.fromarray(layout)
    palette.putpalette([v for c in CLASSES for v in c.color])
    palette.save(tmp_path / "layouts" / "palette.png")
    paint(painter, tmp_path / "layouts", tmp_path / "out")
    paintings = {(tmp_path / "out" / f"{n}.png").read_bytes() for n in ("grey", "wide", "palette")}
    assert len(paintings) == 1


@pytest.mark.parametrize(("format", "kind", "off"), [("png", "PNG", 0), ("jpg", "JPEG", 40), ("webp", "WEBP", 40)])
def test_formats(
    painter: CascadedRefinementNetwork, format: str, kind: str, off: int, layouts: Path, tmp_path: Path
) -> None:
    paint(painter, layouts, tmp_path / "out", format=format)
    paint(painter, layouts, tmp_path / "png")
    for n in range(6):
        with Image.open(tmp_path / "out" / f"{n:04}.{format}") as image:
            assert (image.format, image.size) == (kind, (32, 16))
        pixels = [
            read_photo(p).astype(int) for p in (tmp_path / "out" / f"{n:04}.{format}", tmp_path / f"png/{n:04}.png")
        ]
        assert np.abs(pixels[0] - pixels[1]).mean() <= off


def test_grey_networks_paint_grey_files(layouts: Path, tmp_path: Path) -> None:
    paint(Speckle(spec=SPEC), layouts, tmp_path / "out")
    with Image.open(tmp_path / "out" / "0000.png") as image:
        assert image.mode == "L"


def test_bf16_paints_nearly_the_same(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "fp32")
    summary = paint(painter, layouts, tmp_path / "bf16", precision="bf16")
    assert summary.precision == "bf16"
    fine, coarse = (read_photo(tmp_path / name / "0000.png").astype(int) for name in ("fp32", "bf16"))
    assert 0 < np.abs(fine - coarse).mean() < 8


@pytest.mark.parametrize("has", [True, False])
def test_auto_precision_is_decided_when_the_folder_is_begun(
    painter: CascadedRefinementNetwork, has: bool, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = "bf16" if has else "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has})
    assert paint(painter, layouts / "0000.png", tmp_path / "out", precision="auto").precision == decided
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not has})
    assert paint(painter, layouts, tmp_path / "out", precision="auto").precision == decided


# Going on


def test_finished_paintings_are_skipped(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paint(painter, layouts, out)
    before, first = times(out), contents(out)
    (out / "0003.png").unlink()
    (layouts / "0004.png").unlink()
    put(a_layout(9), layouts / "0009.png")
    summary = paint(painter, layouts, out)
    assert (summary.painted, summary.skipped) == (2, 4)
    after = times(out)
    assert {n for n in before if after[n] == before[n]} == {"0000.png", "0001.png", "0002.png", "0004.png", "0005.png"}
    assert {**contents(out), "0009.png": b""} == {**first, "0009.png": b""}


def test_finished_layouts_are_not_even_read(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "out")
    (layouts / "0002.png").write_bytes(b"")
    assert paint(painter, layouts, tmp_path / "out").failed == 0


def breaking(paint_one: Callable[..., np.ndarray], after: int, what: BaseException) -> Callable[..., np.ndarray]:
    painted: list[Path] = []

    def broken(self: object, source: Path, layout: Layout) -> np.ndarray:
        if len(painted) == after:
            raise what
        painted.append(source)
        return paint_one(self, source, layout)

    return broken


def test_goes_on_after_an_interruption(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(painter, layouts, tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)  # a shell's background job has it ignored
    with monkeypatch.context() as patch:
        patch.setattr(synthesis._Studio, "paint", breaking(synthesis._Studio.paint, 3, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            paint(painter, layouts, tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 1 + 3
    assert not list((tmp_path / "out").rglob(".*.partial"))
    summary = paint(painter, layouts, tmp_path / "out")
    assert (summary.painted, summary.skipped) == (3, 3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_after_the_painting_under_way(
    painter: CascadedRefinementNetwork,
    number: signal.Signals,
    layouts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole, calls = synthesis._Studio.paint, []

    def interrupted(self: synthesis._Studio, place: Place, layout: Layout) -> np.ndarray:
        calls.append(place)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return whole(self, place, layout)

    monkeypatch.setattr(synthesis._Studio, "paint", interrupted)
    with pytest.raises(Interrupted, match="stopped after 2 paintings; the same command goes on"):
        paint(painter, layouts, tmp_path / "out", quiet=False)
    assert set(contents(tmp_path / "out")) == {"0000.png", "0001.png", "synthesis.json"}
    assert "\nstopping after this painting; once more to stop at once\n" in capfd.readouterr().err


def test_ctrl_c_ends_while_waiting_for_stdin(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    """In a process of its own, which must end in peace though a thread waits for a line that never comes."""
    painter.save_pretrained(tmp_path / "net")
    program = (
        "import sys; from photogram.recipes import load; from photogram.synthesis import *\n"
        "try: synthesize(load(sys.argv[1]), collect(['-']), sys.argv[2], quiet=True)\n"
        "except Interrupted as e: print(e)"
    )
    command = [sys.executable, "-c", program, tmp_path / "net", tmp_path / "out"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # pyright: ignore
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(f"{layouts}/0000.png\n")
        process.stdin.flush()
        wait_for(lambda: bool(list((tmp_path / "out").rglob("0000.png"))), 120)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stdout.read() == "stopped after 1 paintings; the same command goes on from there\n"
        assert process.stderr.read() == ""


def test_a_killed_synthesis_leaves_no_litter(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "out")
    (tmp_path / "out" / ".0003.png.4711.partial").write_bytes(b"half")
    paint(painter, layouts, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".*.partial"))


OTHERWISE = [
    ("seed", {"seed": 1}, "seed = 0, not 1"),
    ("size", {"size": (8, 8)}, r"size = \[16, 32\], not \[8, 8\]"),
    ("size", {"size": "native"}, r'size = \[16, 32\], not "native"'),
    ("format", {"format": "webp"}, 'format = "png", not "webp"'),
    ("precision", {"precision": "bf16"}, 'precision = "fp32", not "bf16"'),
]


@pytest.mark.parametrize(("field", "other", "message"), OTHERWISE)
def test_a_folder_is_painted_in_one_way(
    painter: CascadedRefinementNetwork,
    field: str,
    other: dict[str, object],
    message: str,
    layouts: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    paint(painter, layouts, out, sheet=True)
    before = contents(out)
    with pytest.raises(UserError, match=f"{out}: was begun with {message}; .*--overwrite"):
        paint(painter, layouts, out, **other)
    assert contents(out) == before
    assert paint(painter, layouts, out, overwrite=True, **other).painted == 6
    paint(painter, layouts, tmp_path / "fresh", **other)
    assert contents(out) == contents(tmp_path / "fresh")


def test_another_network_is_refused(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "unknown")
    paint(painter, layouts, tmp_path / "out", source="runs/a")
    with torch.no_grad():
        painter.to_rgb.weight[0, 0] += 1e-3
    changed = r"changed since \(trained on, or clustered again\); give another --out, or --overwrite"
    with pytest.raises(UserError, match=f"was begun with another network, or it has {changed}"):
        paint(painter, layouts, tmp_path / "unknown")
    with pytest.raises(UserError, match=f"was begun with the network in runs/a, which has {changed}"):
        paint(painter, layouts, tmp_path / "out", source="runs/a")
    with pytest.raises(UserError, match=f"/runs/a, which has {changed}"):  # the same by another name
        paint(painter, layouts, tmp_path / "out", source=Path("runs/a").absolute())
    with pytest.raises(UserError, match="was begun with the network in runs/a, not that in runs/b; give another"):
        paint(painter, layouts, tmp_path / "out", source="runs/b")


def test_overwriting_never_mixes(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where it was interrupted, nor where it is of a part of the paintings."""
    out = tmp_path / "out"
    paint(painter, layouts, out)
    with pytest.raises(UserError, match=r"0003.png: would stay among paintings that are made otherwise \(3 such\)"):
        paint(painter, [layouts / f"000{n}.png" for n in range(3)], out, overwrite=True, seed=5)
    with monkeypatch.context() as patch:
        patch.setattr(synthesis._Studio, "paint", breaking(synthesis._Studio.paint, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            paint(painter, layouts, out, overwrite=True, size=(8, 16))
    assert paint(painter, layouts, out, size=(8, 16)).painted == 4
    paint(painter, layouts, tmp_path / "fresh", size=(8, 16))
    assert contents(out) == contents(tmp_path / "fresh")


def test_overwriting_a_part_in_the_same_way(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "out")
    before = times(tmp_path / "out")
    assert paint(painter, [layouts / "0001.png"], tmp_path / "out", overwrite=True).painted == 1
    after = times(tmp_path / "out")
    assert [n for n in before if before[n] != after[n]] == ["0001.png"]


def test_a_damaged_record_is_refused(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "out")
    for text in ("{", "[]", "\x00"):
        (tmp_path / "out" / "synthesis.json").write_text(text)
        with pytest.raises(UserError, match=r"synthesis.json: .*paint into another folder"):
            paint(painter, layouts, tmp_path / "out", overwrite=True)


# Where from and where to


def test_folders_keep_their_names(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    for place in ("train/layouts/a.png", "val/layouts/a.png", "val/layouts/deep/b.tif", "val/.hidden/c.png"):
        put(a_layout(1), tmp_path / "city" / place)
    (tmp_path / "city" / "val" / "layouts" / "notes.txt").write_text("no layout")
    paint(painter, [tmp_path / "city" / "train", tmp_path / "city" / "val" / "layouts"], tmp_path / "two")
    assert set(contents(tmp_path / "two")) == {
        "synthesis.json",
        "train/layouts/a.png",
        "val/layouts/a.png",
        "val/layouts/deep/b.png",
    }
    paint(painter, tmp_path / "city" / "val" / "layouts", tmp_path / "one")
    assert set(contents(tmp_path / "one")) == {"synthesis.json", "a.png", "deep/b.png"}
    files = [tmp_path / "city" / "val" / "layouts" / "a.png"]
    paint(painter, [*files, *files, files[0].parent], tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "one"), "the same layout counts once"


def test_names_that_collide(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    put(a_layout(1), layouts / "0001.tif")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=f"{layouts}/0001.png and {layouts}/0001.tif: both would become {out}/0001.png"):
        paint(painter, layouts, out)
    assert not out.exists(), "refused before anything is written"
    summary = synthesize(painter, iter(collect([layouts])), out, precision="fp32", quiet=True)
    assert summary.painted == 6 and summary.failed == 1 and "both would become" in summary.failures[0]


def test_a_layout_named_sheet(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    put(a_layout(1), layouts / "sheet.png")
    with pytest.raises(UserError, match=r"layouts/sheet.png: its painting would be .*whose place is taken"):
        paint(painter, layouts, tmp_path / "out")
    assert paint(painter, layouts, tmp_path / "out", format="jpg").painted == 7


def test_paintings_are_not_taken_for_layouts(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    for _ in range(2):
        summary = paint(painter, layouts, layouts / "painted")
        assert summary.failed == 0 and summary.painted + summary.skipped == 6
    with pytest.raises(UserError, match=r"0000.png: lies in the output folder .*painted; give another --out"):
        paint(painter, [layouts / "painted" / "0000.png"], layouts / "painted")


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_left_alone(
    painter: CascadedRefinementNetwork, overwrite: bool, layouts: Path, tmp_path: Path
) -> None:
    photos = put(np.zeros((4, 4, 3), np.uint8), layouts.parent / "photos" / "0000.png").parent
    with pytest.raises(UserError, match=r"photos: is not empty \(0000.png is there\) and holds no paintings"):
        paint(painter, layouts, photos, overwrite=overwrite)
    assert [p.name for p in photos.iterdir()] == ["0000.png"]


def test_missing_inputs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for inputs, message in (
        ([tmp_path / "nowhere"], "nowhere: no such file or folder"),
        ([tmp_path / ("x" * 300)], "xxx: no such file or folder"),
        ([tmp_path / "empty"], "empty: holds no layouts"),
        ([], "there is nothing to paint"),
    ):
        with pytest.raises(UserError, match=message):
            collect(inputs)


def test_an_output_folder_that_cannot_be(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outs = {"file": "is a file, not a folder", "file/below": r"cannot be written \(.*\)"}
    for out, message in ((tmp_path / name, message) for name, message in outs.items()):
        with pytest.raises(UserError, match=rf"{out}: {message}; give another --out") as caught:
            paint(painter, layouts, out)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(UserError, match=r"out: cannot be written \(Permission denied\)"):
        paint(painter, layouts, tmp_path / "out")


def test_a_disk_that_fills_up(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = paintings.write_raster, []

    def full(pixels: np.ndarray, path: Path) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        written.append(path)
        real(pixels, path)

    with monkeypatch.context() as patch:
        patch.setattr(paintings, "write_raster", full)
        with pytest.raises(
            UserError, match=r"out: cannot be written \(No space left on device\); 2 paintings are written"
        ):
            paint(painter, layouts, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"0000.png", "0001.png", "synthesis.json"}
    assert paint(painter, layouts, tmp_path / "out").painted == 4


def test_two_at_once_are_refused(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    def items() -> Iterator[Item]:
        with pytest.raises(UserError, match="out: another synthesis is painting into this folder"):
            paint(painter, layouts, tmp_path / "out")
        yield from collect([layouts])

    assert synthesize(painter, items(), tmp_path / "out", precision="fp32", quiet=True).painted == 6


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"seed": -1}, "--seed -1: must be 0 or more"),
        ({"size": (0, 8)}, "--size 0 8: both must be at least 1"),
        ({"size": (1 << 20, 1 << 20)}, "--size 1048576 1048576: .*at most 134,217,728 pixels"),
        ({"options": SPEC}, "takes Choice, not SceneSpec"),
    ],
)
def test_values_out_of_bounds(
    painter: CascadedRefinementNetwork, option: dict[str, object], message: str, layouts: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        paint(painter, layouts, tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_networks_that_need_something_else(layouts: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Speckle: paints from nothing"):
        paint(Speckle(spec=SceneSpec(size=(8, 8))), layouts, tmp_path / "out")
    summary = paint(Speckle(spec=SceneSpec(CLASSES, (8, 8), image_channels=1)), layouts, tmp_path / "out")
    assert summary.failed == 6 and "0000.png: has no image beside it (inputs/0000.*)" in summary.failures[0]


# Lists on stdin


class piped:
    """A pipe whose reading end is a stream, as stdin is."""

    def __enter__(self):
        read, self.write = os.pipe()
        self.reader = os.fdopen(read)
        return self.reader, self.write

    def __exit__(self, *exception: object) -> None:
        self.reader.close()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def test_stdin_is_painted_line_by_line(
    painter: CascadedRefinementNetwork,
    layouts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each line only comes when the one before it is painted."""
    monkeypatch.chdir(layouts.parent)
    out = tmp_path / "out"
    with piped() as (reader, writer):

        def type_slowly() -> None:
            for n in range(6):
                os.write(writer, f"layouts/{n:04}.p".encode())
                os.write(writer, b"ng\r\n" if n % 2 else b"ng\n\n")
                wait_for((out / "layouts" / f"{n:04}.png").exists)
            os.write(writer, b"layouts/0000.png")  # again, and without an end of line
            os.close(writer)

        thread = threading.Thread(target=type_slowly)
        thread.start()
        summary = synthesize(painter, collect(["-"], reader), out, precision="fp32")
        thread.join()
    assert (summary.painted, summary.skipped, summary.failed) == (6, 0, 0)
    assert "painting: 6  " in capsys.readouterr().err
    paint(painter, layouts, tmp_path / "whole")
    assert (out / "layouts" / "0003.png").read_bytes() == (tmp_path / "whole" / "0003.png").read_bytes()
    summary = run_lines(painter, [f"layouts/{n:04}.png".encode() for n in range(6)], out)
    assert (summary.painted, summary.skipped) == (0, 6)


def run_lines(network: Generator, lines: list[bytes], out: Path, **options: object) -> Summary:
    with piped() as (reader, writer):
        os.write(writer, b"\n".join(lines))
        os.close(writer)
        inputs = collect(["-"], reader)
        return synthesize(network, inputs, out, **{"precision": "fp32", "quiet": True, **options})  # pyright: ignore


def test_lines_that_are_no_layouts(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    good = bytes(layouts / "0000.png")
    bad = [b"nowhere.png", b"zero\0byte.png", b"/", b".", bytes(layouts), b"n" * 5000, b"\xff\xfe.png"]
    summary = run_lines(painter, [*bad, good], tmp_path / "out", sheet=True)
    assert (summary.painted, summary.failed) == (1, len(bad)), summary
    assert all("\n" not in line for line in summary.failures)
    assert "nowhere.png: no such file" in summary.failures[0]
    assert summary.sheet == tmp_path / "out" / "sheet.png"
    below = (tmp_path / "out" / layouts.relative_to("/") / "0000.png").relative_to(tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {str(below), "sheet.png", "synthesis.json"}


def test_lines_never_lead_out_of_the_folder(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layouts.parent / "here").mkdir()
    monkeypatch.chdir(layouts.parent / "here")
    before = set(tmp_path.rglob("*"))
    summary = run_lines(painter, [b"../layouts/0000.png", b"../layouts/../layouts/0001.png"], tmp_path / "out")
    assert summary.painted == 2
    assert all(p.is_relative_to(tmp_path / "out") for p in set(tmp_path.rglob("*")) - before)


def test_an_endless_line(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    with piped() as (reader, writer):

        def flood() -> None:
            while True:
                try:
                    os.write(writer, b"x" * 4096)
                except BrokenPipeError:
                    return os.close(writer)

        thread = threading.Thread(target=flood)
        thread.start()
        with pytest.raises(UserError, match="standard input: has a line of more than 65536 bytes"):
            synthesize(painter, collect(["-"], reader), tmp_path / "out", quiet=True)
    thread.join()


def test_files_and_lines_together_and_overwriting(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path
) -> None:
    for overwrite in (False, True):
        with piped() as (reader, writer):
            os.write(writer, bytes(layouts / "0001.png"))
            os.close(writer)
            inputs = collect([layouts / "0000.png", "-"], reader)
            options = {"seed": int(overwrite), "overwrite": overwrite, "quiet": True}
            assert synthesize(painter, inputs, tmp_path / "out", **options).painted == 2  # pyright: ignore


# One bad layout


def test_bad_layouts_do_not_lose_the_others(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    wrong = a_layout(0)
    wrong[7, 9] = 34
    put(wrong, layouts / "0001.png")
    whole = (layouts / "0002.png").read_bytes()
    (layouts / "0002.png").write_bytes(whole[: len(whole) * 2 // 3])
    (layouts / "0003.png").write_bytes(b"")
    put(np.zeros((4, 4, 3), np.uint8), layouts / "0004.png")
    put(np.zeros((4, 4), np.uint8), layouts / "0006.jpg")
    summary = paint(painter, layouts, tmp_path / "out", sheet=True)
    assert (summary.painted, summary.failed) == (2, 5)
    assert set(contents(tmp_path / "out")) == {"0000.png", "0005.png", "sheet.png", "synthesis.json"}
    expected = [
        ("0001.png", "class 34 at (row 7, column 9), but there are only classes 0..2"),
        ("0002.png", "damaged or cut short"),
        ("0003.png", "is empty"),
        ("0004.png", "holds colours"),
        ("0006.jpg", "is a JPEG"),
    ]
    for (name, reason), line in zip(expected, summary.failures, strict=True):
        assert line.startswith(f"{layouts / name}: ") and reason in line and "\n" not in line
    text = str(summary).splitlines()
    assert text[0].startswith("painted 2 in ") and text[0].endswith("(fp32), 5 failed:") and len(text) == 6
    put(a_layout(1), layouts / "0001.png")
    summary = paint(painter, layouts, tmp_path / "out")
    assert (summary.painted, summary.skipped, summary.failed) == (1, 2, 4), "the same command mends what can be"


def test_what_only_this_painting_suffers(layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory, values that are not finite, a name too long, an image too large for its format."""
    speckle = Speckle(spec=SPEC)
    for path in sorted(layouts.iterdir())[2:]:
        path.unlink()
    put(a_layout(1), layouts / f"{'n' * 245}.png")
    paint_one = speckle.paint
    troubles: list[BaseException | None] = [
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        None,
    ]

    def troubled(*arguments: object) -> Tensor:
        trouble = troubles.pop(0)
        if trouble is not None:
            raise trouble
        return paint_one(*arguments)  # pyright: ignore

    monkeypatch.setattr(speckle, "paint", troubled)
    summary = paint(speckle, layouts, tmp_path / "out")
    assert summary.painted == 0 and summary.failed == 3
    assert all("too little memory to paint 16 x 32; give a smaller --size" in line for line in summary.failures[:2])
    assert "cannot be stored as" in summary.failures[2] and "File name too long" in summary.failures[2]
    monkeypatch.undo()
    with torch.no_grad():
        speckle.gain.fill_(float("nan"))
    summary = paint(speckle, [layouts / "0000.png"], tmp_path / "nan")
    assert "0000.png: the painting holds values that are not finite" in summary.failures[0]
    with torch.no_grad():
        speckle.gain.fill_(1)
    summary = paint(speckle, [layouts / "0000.png"], tmp_path / "webp", format="webp", size=(2, 17000))
    assert "cannot be stored as 0000.webp" in summary.failures[0]
    assert not (tmp_path / "webp").exists()


def test_faults_of_the_program_are_not_hidden(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the network, and one in the thread that reads."""
    with monkeypatch.context() as patch:
        patch.setattr(synthesis._Studio, "paint", breaking(synthesis._Studio.paint, 1, RuntimeError("shapes")))
        with pytest.raises(RuntimeError, match="shapes"):
            paint(painter, layouts, tmp_path / "out")

    def broken(path: Path, spec: SceneSpec, size: Size | None) -> Condition:
        raise ZeroDivisionError(path)

    monkeypatch.setattr(synthesis, "open_condition", broken)
    with pytest.raises(ZeroDivisionError, match="0001"):
        paint(painter, layouts, tmp_path / "out")
    assert not [t for t in threading.enumerate() if t.name.startswith("photogram")]


# Sheets


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, list[np.ndarray]]]]:
    """The columns and rows of each sheet; what becomes of them is the business of `photogram.sheets`."""
    sheets, real = [], sheets_room.sheet

    def draw_sheet(columns: list[str], rows: list[tuple[str, list[np.ndarray]]]) -> np.ndarray:
        sheets.append((columns, dict(rows)))
        return real(columns, rows)

    monkeypatch.setattr(sheets_room, "sheet", draw_sheet)
    return sheets


def test_sheets_show_layout_painting_and_photograph(
    painter: CascadedRefinementNetwork,
    layouts: Path,
    tmp_path: Path,
    drawn: list[tuple[list[str], dict[str, list[np.ndarray]]]],
) -> None:
    red = np.full((24, 48, 3), (255, 0, 0), np.uint8)
    put(red, layouts.parent / "photos" / "0001.png")
    summary = paint(painter, layouts, tmp_path / "out", sheet=True)
    assert summary.sheet == tmp_path / "out" / "sheet.png"
    page = read_photo(tmp_path / "out" / "sheet.png")
    columns, rows = drawn[0]
    assert columns == ["layout", "painting", "photograph"]
    assert list(rows) == [f"{n:04}.png" for n in range(6)]
    for n, (layout, painting, photograph) in enumerate(rows.values()):
        np.testing.assert_array_equal(layout, np.array([c.color for c in CLASSES], np.uint8)[a_layout(n)])
        np.testing.assert_array_equal(painting, read_photo(tmp_path / "out" / f"{n:04}.png"))
        assert photograph.shape == (16, 32, 3)
        assert (photograph == ((255, 0, 0) if n == 1 else (255, 255, 255))).all()
    (tmp_path / "out" / "0003.png").unlink()
    resumed = paint(painter, layouts, tmp_path / "out", sheet=True)
    assert (resumed.painted, resumed.skipped) == (1, 5)
    np.testing.assert_array_equal(read_photo(tmp_path / "out" / "sheet.png"), page)
    paint(painter, [layouts / "0000.png"], tmp_path / "without", sheet=True)
    assert drawn[-1][0] == ["layout", "painting"]


def test_sheets_of_many_and_of_large(
    painter: CascadedRefinementNetwork,
    tmp_path: Path,
    drawn: list[tuple[list[str], dict[str, list[np.ndarray]]]],
) -> None:
    for n in range(47):
        put(a_layout(n, (4, 8)), tmp_path / "layouts" / f"{n:04}.png")
    put(np.zeros((4, 1100), np.uint8), tmp_path / "layouts" / "wide.png")
    paint(painter, tmp_path / "layouts", tmp_path / "out", size="native", sheet=True)
    assert list(drawn[0][1]) == [*(f"{n:04}.png" for n in range(1, 47, 2)), "wide.png"], "every other one"
    assert [tile.shape for tile in drawn[0][1]["wide.png"]] == [(2, 512, 3)] * 2
    assert read_photo(tmp_path / "out" / "wide.png").shape == (4, 1100, 3)


def test_sheets_of_damaged_paintings(painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    paint(painter, layouts, tmp_path / "out")
    (tmp_path / "out" / "0002.png").write_bytes(b"damaged")
    summary = paint(painter, layouts, tmp_path / "out", sheet=True)
    assert summary.failed == 1 and "0002.png: is no image that can be read; left out" in summary.failures[0]
    assert summary.sheet is not None
    assert synthesize(painter, [], tmp_path / "none", sheet=True, quiet=True).sheet is None, "nothing to show"


def test_where_nothing_is_painted_nothing_is_left(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    summary = synthesize(painter, collect([tmp_path / "in"]), tmp_path / "out", quiet=True)
    assert summary.failed == 1 and not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    summary = synthesize(painter, collect([tmp_path / "in"]), tmp_path / "mine" / "out", quiet=True)
    assert (tmp_path / "mine").is_dir() and list((tmp_path / "mine").iterdir()) == []


# --- all candidates, and animations ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> CascadedRefinementNetwork:
    torch.manual_seed(3)
    network = CascadedRefinementNetwork(spec=SPEC, widths=(6, 5, 4), candidates=3)
    with torch.no_grad():
        network.to_rgb.weight.mul_(8)
    return network


def test_all_candidates_are_written_with_a_numbered_sheet_and_go_on(
    three: CascadedRefinementNetwork, layouts: Path, tmp_path: Path
) -> None:
    out, everything = tmp_path / "out", Choice(candidates="all")
    summary = paint(three, layouts, out, options=everything)
    assert summary.painted == len(list(layouts.rglob("*.png"))) > 1
    path = sorted(layouts.rglob("*.png"))[0]
    name = path.relative_to(layouts).with_suffix("")
    painted = three.sample(Layout.open(path).resized(SPEC.size), 0, everything)[0]
    tiles = [read_photo(out / name / f"{n}.png") for n in range(3)]
    for n, tile in enumerate(tiles):
        np.testing.assert_array_equal(tile, to_pixels(painted[n]).numpy())
    height, width = SPEC.size
    page = read_photo(out / name.with_suffix(".png"))
    assert page.shape[0] >= 2 * height and page.shape[1] >= 2 * width  # a square of two by two
    for tile in tiles:
        views = np.lib.stride_tricks.sliding_window_view(page, (height, width, 3))[:, :, 0]
        assert any((views[y, x] == tile).all() for y in range(len(views)) for x in range(views.shape[1]))
    before = contents(out)
    (out / name.with_suffix(".png")).unlink()  # what says that its candidates are finished
    again = paint(three, layouts, out, options=everything)
    assert (again.painted, again.skipped) == (1, summary.painted - 1) and contents(out) == before


def test_a_sheet_of_candidates_shows_layout_and_photograph_as_they_are(
    three: CascadedRefinementNetwork,
    layouts: Path,
    tmp_path: Path,
    drawn: list[tuple[list[str], dict[str, list[np.ndarray]]]],
) -> None:
    put(np.full((24, 48, 3), 9, np.uint8), layouts.parent / "photos" / "0001.png")
    paint(three, layouts, tmp_path / "out", options=Choice(candidates="all"), sheet=True)
    layout, painting, photograph = drawn[0][1]["0001.png"]
    np.testing.assert_array_equal(layout, np.array([c.color for c in CLASSES], np.uint8)[a_layout(1)])
    np.testing.assert_array_equal(painting, read_photo(tmp_path / "out" / "0001.png"))
    assert photograph.shape == layout.shape == (*SPEC.size, 3)
    assert drawn[0][1]["0000.png"][2].shape == layout.shape


@pytest.mark.skipif(not kept_weights._PACKS, reason="this processor's weights are not packed")
def test_weights_are_kept_from_one_painting_to_the_next(
    painter: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[KeptWeights] = []
    real = KeptWeights._convolved

    def convolved(kept: KeptWeights, transposed: bool, given: dict[str, object]) -> Tensor:
        calls.append(kept)
        return real(kept, transposed, given)

    monkeypatch.setattr(KeptWeights, "_convolved", convolved)
    summary = paint(painter, layouts, tmp_path / "out")
    layers = sum(isinstance(part, torch.nn.Conv2d) for part in painter.modules())
    assert summary.painted > 1 and len(calls) >= summary.painted * layers
    assert len({id(kept) for kept in calls}) == 1 and len(calls) == summary.painted * len(calls[0].packed)


@pytest.mark.parametrize("first", ["0000.png", "0000/0.png"])
def test_candidates_of_one_layout_never_lie_among_those_of_another(
    three: CascadedRefinementNetwork, layouts: Path, tmp_path: Path, first: str
) -> None:
    """The candidates of 0000 are written as 0000/0, 0000/1 ..., which is a layout's name here too."""
    put(a_layout(7), layouts / "0000" / "0.png")
    both = sorted([layouts / "0000.png", layouts / "0000" / "0.png"], key=lambda path: path != layouts / first)
    items = [Item(path, str(path.relative_to(layouts).with_suffix(""))) for path in both]
    for inputs, raised in ((items, True), (iter(items), False)):
        out = tmp_path / str(raised)
        if raised:
            with pytest.raises(UserError, match=r"0000.* would lie among the paintings"):
                synthesize(three, inputs, out, options=Choice(candidates="all"), precision="fp32", quiet=True)
            assert not out.exists()
        else:
            summary = synthesize(three, inputs, out, options=Choice(candidates="all"), precision="fp32", quiet=True)
            assert (summary.painted, summary.failed) == (1, 1) and "would lie among" in summary.failures[0]
    apart = synthesize(three, items, tmp_path / "one", options=Choice(candidates=1), precision="fp32", quiet=True)
    assert apart.painted == 2  # one painting each: no folder is needed


def test_one_candidate_paints_over_all_where_that_is_asked_for(
    three: CascadedRefinementNetwork, layouts: Path, tmp_path: Path
) -> None:
    paint(three, layouts, tmp_path / "out", options=Choice(candidates="all"))
    with pytest.raises(UserError, match="was begun with options"):
        paint(three, layouts, tmp_path / "out", options=Choice(candidates=1))
    paint(three, layouts, tmp_path / "out", options=Choice(candidates=1), overwrite=True)
    paint(three, layouts, tmp_path / "fresh", options=Choice(candidates=1))
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    assert not (tmp_path / "out" / sorted(layouts.rglob("*.png"))[0].stem).exists()


def test_the_candidate_that_is_chosen_is_kept(three: CascadedRefinementNetwork, layouts: Path, tmp_path: Path) -> None:
    asked: list[tuple[int, Path]] = []

    def choose(candidates: torch.Tensor, source: Path) -> int:
        asked.append((len(candidates), source))
        return 2

    paint(three, layouts, tmp_path / "chosen", options=Choice(candidates="best"), choose=choose)
    paint(three, layouts, tmp_path / "second", options=Choice(candidates=2))
    files = sorted(p.relative_to(tmp_path / "second") for p in (tmp_path / "second").rglob("*.png"))
    assert files and all(
        (tmp_path / "chosen" / p).read_bytes() == (tmp_path / "second" / p).read_bytes() for p in files
    )
    assert sorted(source for _, source in asked) == sorted(layouts.rglob("*.png")) and {n for n, _ in asked} == {3}


def test_the_command_keeps_the_candidate_nearest_to_the_photograph(
    three: CascadedRefinementNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three.save_pretrained(tmp_path / "net")
    path = put(a_layout(1, (32, 64)), tmp_path / "data" / "layouts" / "a.png")
    command = ["synthesize", str(tmp_path / "net"), str(path), "--precision", "fp32", "--size", "native"]
    command.append("--candidates")
    assert main([*command, "best", "--out", str(tmp_path / "none")]) == 1
    assert "has no photograph beside it (photos/a.*)" in capsys.readouterr().err
    everything = three.sample(Layout.open(path), 0, Choice(candidates="all"))[0]
    for n in range(3):
        photo = to_pixels(everything[n]).numpy()
        put(photo, tmp_path / "data" / "photos" / "a.png")
        assert main([*command, "best", "--out", str(tmp_path / f"best-{n}")]) == 0
        assert f"{path}: candidate {n}\n" in capsys.readouterr().out
        np.testing.assert_array_equal(read_photo(tmp_path / f"best-{n}" / "a.png"), photo)
    assert main([*command, "1", "--mix", "sky=2", "--feather", "0", "--out", str(tmp_path / "mixed")]) == 0
    mixed = read_photo(tmp_path / "mixed" / "a.png")
    first = a_layout(1, (32, 64)) == 0
    assert first.any() and not first.all()
    np.testing.assert_array_equal(mixed[first], to_pixels(everything[2]).numpy()[first])
    np.testing.assert_array_equal(mixed[~first], to_pixels(everything[1]).numpy()[~first])
    assert main([*command, "1", "--mix", "c9=2", "--out", str(tmp_path / "wrong")]) == 1
    assert not (tmp_path / "wrong").exists()


def test_frames_are_animated_in_the_order_of_their_names(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    for n in (2, 0, 1):
        put(a_layout(n, SPEC.size), tmp_path / "shot" / f"frame-{n}.png")
    paint(painter, tmp_path / "shot", tmp_path / "out", animate=8)
    with Image.open(tmp_path / "out" / "animation.webp") as animation:
        assert animation.format == "WEBP" and animation.n_frames == 3  # type: ignore[attr-defined]
        for n in range(3):
            animation.seek(n)
            shown = np.asarray(animation.convert("RGB")).astype(int)
            painted = [read_photo(tmp_path / "out" / f"frame-{m}.png") for m in range(3)]
            apart = [float(np.abs(shown - other).mean()) for other in painted]
            assert int(np.argmin(apart)) == n
            animation.load()
            assert animation.info["duration"] == 125
    paint(painter, tmp_path / "shot", tmp_path / "out", animate=8, overwrite=True)
    assert Pictures(tmp_path / "out").names == ["frame-0", "frame-1", "frame-2"]


def test_a_long_word_before_the_run_is_no_path(three: CascadedRefinementNetwork, tmp_path: Path) -> None:
    three.save_pretrained(tmp_path / "net")
    path = put(a_layout(1, (32, 64)), tmp_path / "a.png")
    mix = ",".join([f"{SPEC.classes[0].name}=1"] + [" "] * 300)
    assert main(["synthesize", "--out", str(tmp_path / "o"), "--mix", mix, str(tmp_path / "net"), str(path)]) == 0


def test_what_cannot_be_animated(painter: CascadedRefinementNetwork, tmp_path: Path) -> None:
    for n, size in enumerate(((16, 32), (16, 16))):
        put(a_layout(n, size), tmp_path / "shot" / f"{n}.png")
    with pytest.raises(UserError, match=r"is 16 x 16, but 0\.png is 16 x 32; paint at one --size"):
        paint(painter, tmp_path / "shot", tmp_path / "out", animate=8, size="native")
    for rate in (-1.0, 1e-9, 101.0, float("nan")):
        with pytest.raises(UserError, match="--animate"):
            paint(painter, tmp_path / "shot", tmp_path / "new", animate=rate)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="whose place is taken"):
        put(a_layout(0, (16, 32)), tmp_path / "one" / "animation.png")
        paint(painter, tmp_path / "one", tmp_path / "new", format="webp")


def test_a_network_that_reads_paints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SegmentationNetwork(spec=SPEC, width=16).save_pretrained(tmp_path / "net")
    path = put(a_layout(0), tmp_path / "layouts" / "a.png")
    assert main(["synthesize", str(tmp_path / "net"), str(path), "--out", str(tmp_path / "out")]) == 1
    assert "holds a SegmentationNetwork, which paints nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
