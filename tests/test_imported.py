"""Segmenters from elsewhere: small networks that the tests export, mappings of classes, and bad descriptions."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.metrics.imported import ImportedSegmenter
from photogram.scene import SceneClass, SceneSpec

SPEC = SceneSpec(
    (
        SceneClass("sky", (0, 0, 255)),
        SceneClass("road", (90, 90, 90)),
        SceneClass("unlabelled", (0, 0, 0), void=True),
        SceneClass("grass", (0, 255, 0)),
        SceneClass("tram", (255, 0, 0)),
    ),
    size=(24, 32),
)
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
GOOD: dict[str, Any] = {
    "file": "net.pt2",
    "classes": {"0": "grass", "2": "sky", "3": "road", "5": "grass"},
    "size": None,
    "mean": MEAN,
    "std": STD,
}


class Net(nn.Module):
    """Six classes at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def exported(path: Path, net: nn.Module, size: tuple[int, int] = (24, 32), free: bool = True) -> None:
    """As a user would; `free` lets heights and widths vary."""
    example = torch.zeros(1, 3, *size)
    height, width = (2 * torch.export.Dim(name, min=4, max=512) for name in ("height", "width"))
    shapes = {"x": {2: height, 3: width}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=shapes), path)
        else:
            logging.disable(logging.WARNING)
            torch.onnx.export(net.eval(), (example,), path, dynamic_shapes=shapes, dynamo=True, verbose=False)
            logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    exported(folder / "net.pt2", Net())
    return folder


def described(folder: Path, name: str = "mine.json", **changes: object) -> Path:
    (folder / name).write_text(json.dumps({**GOOD, **changes}), encoding="utf-8")
    return folder / name


def photographs(n: int = 2, height: int = 24, width: int = 32, channels: int = 3) -> Tensor:
    coarse = torch.rand(n, channels, 4, 5, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, (height, width), mode="bilinear") * 2 - 1


def expected(photo: Tensor, classes: dict[str, str], size: tuple[int, int] | None = None) -> Tensor:
    """The likeliest of the network's classes that are mentioned, renamed, pixel by pixel."""
    names = [c.name for c in SPEC.classes]
    x = ((photo.expand(-1, 3, -1, -1) + 1) / 2 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    if size is not None:
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = F.interpolate(Net()(x), photo.shape[-2:], mode="bilinear")
    found = torch.zeros(len(photo), *photo.shape[-2:], dtype=torch.long)
    for n, i, j in torch.cartesian_prod(*(torch.arange(k) for k in found.shape)).tolist():
        best = max(classes, key=lambda c: float(logits[n, int(c), i, j]))
        found[n, i, j] = names.index(classes[best])
    return found


@pytest.mark.parametrize("size", [(24, 32), (18, 26)])
def test_readings_of_an_exported_program_equal_those_of_its_network(made: Path, size: tuple[int, int]):
    photo = photographs(3, *size)
    found = ImportedSegmenter(described(made), SPEC).predict(photo)
    assert torch.equal(found, expected(photo, GOOD["classes"])) and found.dtype == torch.int64
    assert set(found.unique().tolist()) == {0, 1, 3}  # all that are mentioned, and no other


def test_several_classes_may_mean_one_and_those_not_mentioned_are_never_read(made: Path):
    photo = photographs()
    for classes in ({"1": "tram", "4": "road"}, {"0": "sky", "1": "sky", "2": "sky", "3": "tram"}, {"5": "road"}):
        found = ImportedSegmenter(described(made, classes=classes), SPEC).predict(photo)
        assert torch.equal(found, expected(photo, classes))
    assert found.unique().tolist() == [1]


def test_photographs_are_brought_to_the_size_of_the_description(made: Path, tmp_path: Path):
    exported(tmp_path / "net.pt2", Net(), (16, 20), free=False)
    photo = photographs(3)
    found = ImportedSegmenter(described(tmp_path, size=[16, 20]), SPEC).predict(photo)
    assert torch.equal(found, expected(photo, GOOD["classes"], (16, 20)))
    with pytest.raises(
        UserError, match=r"net\.pt2: cannot read this photograph \(.+\); set size in its description"
    ) as e:
        ImportedSegmenter(described(tmp_path), SPEC).predict(photo)
    assert "\n" not in str(e.value)


def test_grey_photographs_are_seen_as_rgb(made: Path):
    segmenter = ImportedSegmenter(described(made), SPEC)
    assert torch.equal(segmenter.predict(photographs(channels=1)), expected(photographs(channels=1), GOOD["classes"]))
    with pytest.raises(UserError, match="reads photographs of 1 or 3 channels, not 2"):
        segmenter.predict(photographs(channels=2))


def test_the_digest_tells_files_mappings_and_normalisations_apart(made: Path, tmp_path: Path):
    same = [ImportedSegmenter(described(made), SPEC).digest for _ in range(2)]
    assert same[0] == same[1] and len(same[0]) == 64
    changes: list[dict[str, Any]] = [
        {"mean": [0.4, 0.5, 0.5]},
        {"std": [0.2, 0.2, 0.3]},
        {"size": [24, 32]},
        {"classes": {**GOOD["classes"], "1": "tram"}},
    ]
    others = [ImportedSegmenter(described(made, **change), SPEC).digest for change in changes]
    net = Net()
    net.conv.bias.data += 1  # pyright: ignore
    exported(tmp_path / "net.pt2", net)
    others.append(ImportedSegmenter(described(tmp_path), SPEC).digest)
    assert len({same[0], *others}) == 6


def test_an_onnx_file_is_read_the_same(tmp_path: Path):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason="photogram[export] is needed")
    exported(tmp_path / "net.onnx", Net())
    segmenter = ImportedSegmenter(described(tmp_path, file="net.onnx"), SPEC)
    for size in ((24, 32), (18, 26)):
        assert torch.equal(segmenter.predict(photographs(2, *size)), expected(photographs(2, *size), GOOD["classes"]))
    exported(tmp_path / "fixed.onnx", Net(), (16, 20), free=False)
    segmenter = ImportedSegmenter(described(tmp_path, file="fixed.onnx", size=[16, 20]), SPEC)
    assert torch.equal(segmenter.predict(photographs()), expected(photographs(), GOOD["classes"], (16, 20)))
    with pytest.raises(UserError, match=r"fixed\.onnx: cannot read this photograph .*set size in its description") as e:
        ImportedSegmenter(described(tmp_path, file="fixed.onnx"), SPEC).predict(photographs())
    assert "\n" not in str(e.value)
    (tmp_path / "damaged.onnx").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"damaged\.onnx: is damaged or not an ONNX file"):
        ImportedSegmenter(described(tmp_path, file="damaged.onnx"), SPEC)


def test_onnx_without_its_runtime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"net\.onnx: reading ONNX needs onnxruntime; pip install 'photogram\[export\]'"
    ):
        ImportedSegmenter(described(tmp_path, file="net.onnx"), SPEC)


def test_a_runtime_that_cannot_be_imported_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "onnxruntime.py").write_text("raise OSError('libcuda is missing')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"needs onnxruntime, which cannot be imported \(OSError: libcuda is missing\)"):
        ImportedSegmenter(described(tmp_path, file="net.onnx"), SPEC)


# Bad descriptions.

BAD: list[tuple[dict[str, Any], str]] = [
    ({"file": 3}, "file is 3; it must be the path of an .onnx or .pt2 file"),
    ({"file": ""}, "file is ''; it must be the path"),
    ({"mean": [0.5, 0.5]}, r"mean is \[0.5, 0.5\]; it must be three numbers, of red, green and blue in 0..1"),
    ({"mean": "imagenet"}, "mean is 'imagenet'; it must be three numbers"),
    ({"mean": [0.5, 0.5, "0.5"]}, "mean is .*; it must be three numbers"),
    ({"mean": [0.5, 0.5, True]}, "mean is .*; it must be three numbers"),
    ({"mean": [0.5, 0.5, float("nan")]}, "mean is .*nan.*; it must be three numbers"),
    ({"std": [0.2, 0.2, 0]}, r"std is \[0.2, 0.2, 0\]; it must be three numbers, .*, above 0"),
    ({"std": [0.2, -0.2, 0.2]}, "std is .*, above 0"),
    ({"std": None}, "std is None; it must be three numbers"),
    ({"size": [24]}, r"size is \[24\]; it must be \[height, width\], or null"),
    ({"size": [24, 0]}, r"size is \[24, 0\]; it must be \[height, width\]"),
    ({"size": [24, 32.0]}, r"size is \[24, 32.0\]; it must be \[height, width\]"),
    ({"size": 24}, r"size is 24; it must be \[height, width\]"),
    ({"classes": {}}, r"classes is \{\}; it must be"),
    ({"classes": ["sky"]}, r"classes is \['sky'\]; it must be"),
    ({"classes": {"0": 3}}, r"classes is \{'0': 3\}; it must be"),
    ({"classes": {"sky": "sky"}}, "class 'sky' must be a number, the channel of the network's output"),
    ({"classes": {"-1": "sky"}}, "class '-1' must be a number"),
    ({"classes": {"0": "sky", "00": "road"}}, "class '00' must be a number"),
    ({"classes": {"0": "rode"}}, r"class 0 is 'rode', which the data lacks \(did you mean 'road'\?\)"),
    (
        {"classes": {"0": "unlabelled"}},
        "class 0 is 'unlabelled', which is void, which nothing is read as; leave it out",
    ),
    ({"sizes": [1, 1]}, r"key 'sizes' is unknown \(did you mean 'size'\?\)"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_bad_value_is_named_with_what_it_must_be(made: Path, change: dict[str, Any], words: str):
    with pytest.raises(UserError, match=rf"bad\.json: {words}") as error:
        ImportedSegmenter(described(made, "bad.json", **change), SPEC)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", list(GOOD))
def test_a_missing_key_is_named(tmp_path: Path, key: str):
    (tmp_path / "bad.json").write_text(json.dumps({k: v for k, v in GOOD.items() if k != key}), encoding="utf-8")
    with pytest.raises(UserError, match=f"bad.json: key '{key}' is missing; it has file, classes, size, mean, std"):
        ImportedSegmenter(tmp_path / "bad.json", SPEC)


def test_files_that_are_missing_damaged_or_of_another_kind_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        ImportedSegmenter(tmp_path / "none.json", SPEC)
    for content, words in (("{", "cannot be read as JSON"), ("[1]", "describes no segmenter"), ("\x00", "as JSON")):
        (tmp_path / "bad.json").write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=rf"bad\.json: .*{words}"):
            ImportedSegmenter(tmp_path / "bad.json", SPEC)
    with pytest.raises(UserError, match=r"net\.pt2: no such file"):
        ImportedSegmenter(described(tmp_path), SPEC)
    with pytest.raises(UserError, match=r"net\.pth: segmenters come as \.onnx or \.pt2"):
        ImportedSegmenter(described(tmp_path, file="net.pth"), SPEC)
    for content in (b"", b"something else", b"PK\x03\x04" + b"\0" * 60):
        (tmp_path / "net.pt2").write_bytes(content)
        with pytest.raises(UserError, match=r"net\.pt2: is damaged or not a torch\.export file"):
            ImportedSegmenter(described(tmp_path), SPEC)


class Wrong(nn.Module):
    """A network that gives something else than logits of every class."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        if self.kind == "dictionary":
            return {"out": x}
        if self.kind == "classes":
            return x.argmax(1)
        if self.kind == "few":
            return x[:, :2]
        return x.repeat(1, 2, 1, 1) * torch.nan


WRONG = [
    ("dictionary", r"gave dict, not one tensor of logits"),
    ("classes", r"gave \[1, 24, 32\]; it must give logits \[1, 6 or more, height, width\], .* names class 5"),
    ("few", r"gave \[1, 2, 24, 32\]; it must give logits \[1, 6 or more, height, width\]"),
    ("nan", r"gave logits that are no numbers"),
]


@pytest.mark.parametrize(("kind", "words"), WRONG)
def test_a_network_that_gives_something_else_is_refused(tmp_path: Path, kind: str, words: str):
    exported(tmp_path / "net.pt2", Wrong(kind), free=False)
    with pytest.raises(UserError, match=rf"net\.pt2: {words}"):
        ImportedSegmenter(described(tmp_path), SPEC).predict(photographs())
