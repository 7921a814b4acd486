"""The preparer of NYU Depth v2, on small files in the layout of the real one: MATLAB v7.3, axes reversed."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from photogram.data.check import check
from photogram.data.folder import Folder
from photogram.data.nyu import prepare_nyu, scene_objects
from photogram.errors import UserError
from photogram.images import read_labels, read_photo
from photogram.scene import read_classes

h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra nyu)")

SIZE, SCENES = (12, 16), 5
NAMES = ("wall", "floor", "chair", "tap", "lamp")


def write_cells(file: h5py.File, key: str, texts: Sequence[str]) -> None:
    """A column cell array of texts, as MATLAB v7.3 stores it: [1, n] references to [letters, 1] uint16."""
    cells = file.create_dataset(key, (1, len(texts)), dtype=h5py.ref_dtype)
    for n, text in enumerate(texts):
        letters = file.create_dataset(f"#refs#/{key}{n}", data=np.array([[ord(c)] for c in text], np.uint16))
        cells[0, n] = letters.ref


def scenes(count: int = SCENES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs [n, h, w, 3], labels and instances [n, h, w]: the first names are the most frequent."""
    draw = np.random.default_rng(0)
    photos = draw.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    labels = draw.choice(6, (count, *SIZE), p=[0.1, 0.2, 0.35, 0.05, 0.2, 0.1]).astype(np.uint16)
    instances = np.where(labels == 0, 0, draw.integers(1, 4, labels.shape)).astype(np.uint8)
    return photos, labels, instances


def write_mat(path: Path, **changed: np.ndarray) -> Path:
    photos, labels, instances = scenes()
    parts = {
        "images": photos.transpose(0, 3, 2, 1),
        "labels": labels.transpose(0, 2, 1),
        "instances": instances.transpose(0, 2, 1),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, values in (parts | changed).items():
            file.create_dataset(key, data=values, chunks=(1, *values.shape[1:]), compression="gzip")
        write_cells(file, "names", NAMES)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Sat Sep 22 22:54:39 2012 HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(header.ljust(512, b"\0"))
    return path


def write_mapping(
    path: Path, numbers: Sequence[float], names: Sequence[str], form: str, all_names: Sequence[str]
) -> Path:
    if form == "v5":
        savemat = pytest.importorskip("scipy.io").savemat
        cells = np.empty((1, len(names)), dtype=object)
        cells[0] = names
        every = np.empty((1, len(all_names)), dtype=object)
        every[0] = all_names
        savemat(path, {"mapClass": np.array([numbers]), "className": cells, "allClassName": every})
        return path
    with h5py.File(path, "w") as file:
        file["mapClass"] = np.array(numbers, np.float64)[:, None]
        write_cells(file, "className", names)
        write_cells(file, "allClassName", all_names)
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_all_names_are_kept_and_axes_turned(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "nyu_depth_v2_labeled.mat")
    before = source.read_bytes()
    made = prepare_nyu(tmp_path, out=tmp_path / "out", top=894, train=3, quiet=True)
    assert source.read_bytes() == before
    assert [(s.name, s.layouts, s.photos, s.instances) for s in made.splits] == [("train", 3, 3, 3), ("val", 2, 2, 2)]
    classes = read_classes(tmp_path / "out/classes.json")
    assert [c.name for c in classes] == [*NAMES, "unlabelled"]
    assert [c.void for c in classes] == [False] * 5 + [True] and len({c.color for c in classes}) == 6
    photos, labels, instances = scenes()
    for n in range(SCENES):
        folder = tmp_path / "out" / ("train" if n < 3 else "val")
        assert np.array_equal(read_photo(folder / f"photos/000{n + 1}.png"), photos[n])
        layout = read_labels(folder / f"layouts/000{n + 1}.png")
        assert np.array_equal(layout, np.where(labels[n] == 0, 5, labels[n].astype(int) - 1))
        objects = read_labels(folder / f"instances/000{n + 1}.png")
        pairs = np.where(labels[n] == 0, 0, labels[n].astype(int) * 10 + instances[n])
        assert len(set(zip(objects.ravel().tolist(), pairs.ravel().tolist(), strict=True))) == len(np.unique(pairs))
        assert np.array_equal(objects == 0, labels[n] == 0) and objects.max() == len(np.unique(pairs)) - 1
    assert len(Folder(tmp_path / "out", size=SIZE)) == 3 and Folder(tmp_path / "out").spec.instances
    assert not check(tmp_path / "out", quiet=True).stops_training


def test_the_most_frequent_names_of_the_training_scenes(tmp_path: Path) -> None:
    photos, labels, _ = scenes()
    labels[3:] = 5  # lamps, but in val
    source = write_mat(tmp_path / "nyu.mat", labels=labels.transpose(0, 2, 1))
    made = prepare_nyu(source, out=tmp_path / "out", top=2, train=3, quiet=True)
    counts = np.bincount(labels[:3].ravel(), minlength=6)[1:]
    order = sorted(range(5), key=lambda i: -counts[i])
    assert [c.name for c in made.classes] == [NAMES[order[0]], NAMES[order[1]], "unlabelled"] and order[0] == 1
    lost = 1 - counts[order[:2]].sum() / counts.sum()
    assert any(w.startswith(f"{lost:.1%} of the labelled pixels") for w in made.warnings)
    layout = read_labels(tmp_path / "out/train/layouts/0001.png")
    assert np.array_equal(layout, np.select([labels[0] == order[0] + 1, labels[0] == order[1] + 1], [0, 1], 2))
    assert (read_labels(tmp_path / "out/val/layouts/0004.png") == 2).all()
    with pytest.raises(UserError, match="was prepared with"):
        prepare_nyu(source, out=tmp_path / "out", top=3, train=3, quiet=True)
    del photos


@pytest.mark.parametrize("form", ["v5", "v7.3"])
def test_a_mapping(tmp_path: Path, form: str) -> None:
    source = write_mat(tmp_path / "nyu.mat")
    path = write_mapping(
        tmp_path / "classMapping40.mat", [2, 1, 3, 0, 3], ["floor mat", "wall", "otherprop"], form, NAMES
    )
    made = prepare_nyu(source, out=tmp_path / "out", mapping=path, train=4, quiet=True)
    assert [c.name for c in made.classes] == ["floor mat", "wall", "otherprop", "unlabelled"] and not made.warnings
    table = np.array([3, 1, 0, 2, 3, 2])
    assert np.array_equal(read_labels(tmp_path / "out/val/layouts/0005.png"), table[scenes()[1][4]])


@pytest.mark.parametrize("form", ["v5", "v7.3"])
def test_mappings_that_do_not_fit(tmp_path: Path, form: str) -> None:
    source, out = write_mat(tmp_path / "nyu.mat"), tmp_path / "out"
    for numbers, names, message in (
        ([1, 1, 1], NAMES, "maps 3 labels, but the data set has 5"),
        ([1, 2, 3, 1, 1], NAMES, "mapClass has 1.0..3.0; expected whole numbers up to 2"),
        ([1, 1.5, 1, 1, 1], NAMES, "expected whole numbers"),
        ([1, 1, -1, 1, 1], NAMES, "expected whole numbers"),
        ([1, 1, 1, 1, 1], (*NAMES[:3], "sink", "lamp"), "its label 4 is not that of the data set"),
    ):
        path = write_mapping(tmp_path / "map.mat", numbers, ["a", "b"], form, names)
        with pytest.raises(UserError, match=message):
            prepare_nyu(source, out=out, mapping=path, train=4, quiet=True)
    whole = path.read_bytes()
    for damaged in (b"", b"no matrix", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"map.mat: "):
            prepare_nyu(source, out=out, mapping=path, train=4, quiet=True)
    with pytest.raises(UserError, match="no such file; --mapping names"):
        prepare_nyu(source, out=out, mapping=tmp_path / "none.mat", train=4, quiet=True)
    assert not out.exists()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    photos, labels, instances = scenes()
    images = photos.transpose(0, 3, 2, 1)
    many = labels.copy()
    many[1, 2, 3] = 9
    for changed, message in (
        ({"images": images[:, :2]}, r"images are uint8 \[5, 2, 16, 12\]; expected uint8 \[scenes, 3, width, height\]"),
        ({"images": images.astype(np.float32)}, "images are float32"),
        ({"labels": labels}, r"labels are uint16 \[5, 12, 16\]; expected uint16 \[5, 16, 12\]"),
        ({"labels": labels.transpose(0, 2, 1)[:4]}, r"labels are uint16 \[4, 16, 12\]"),
        ({"instances": instances.transpose(0, 2, 1).astype(np.int64)}, "instances are int64"),
        (
            {"labels": many.transpose(0, 2, 1)},
            r"scene 2 has label 9 at \(row 2, column 3\), but there are only 5 names",
        ),
    ):
        source = write_mat(tmp_path / "nyu.mat", **changed)
        with pytest.raises(UserError, match=message):
            prepare_nyu(source, out=tmp_path / "out", train=3, top=9, quiet=True)
        assert not (tmp_path / "out/classes.json").exists()
    source = write_mat(tmp_path / "nyu.mat")
    for train in (0, 6):
        with pytest.raises(UserError, match=f"holds 5 scenes, but --train is {train}; give 1..5"):
            prepare_nyu(source, out=tmp_path / "new", train=train, quiet=True)
    with pytest.raises(UserError, match="--train is 1200"):  # the default is the paper's
        prepare_nyu(source, out=tmp_path / "new", quiet=True)
    with pytest.raises(UserError, match="--top 0"):
        prepare_nyu(source, out=tmp_path / "new", train=3, top=0, quiet=True)
    with h5py.File(source, "r+") as file:
        del file["labels"]
    with pytest.raises(UserError, match=r"has no labels, only .*images, instances, names"):
        prepare_nyu(source, out=tmp_path / "new", train=3, quiet=True)
    with pytest.raises(UserError, match=r"must hold one nyu_depth_v2_labeled.mat, but there is none"):
        prepare_nyu(tmp_path, out=tmp_path / "new", quiet=True)
    with pytest.raises(UserError, match="no such file"):
        prepare_nyu(tmp_path / "none.mat", out=tmp_path / "new", quiet=True)


def test_names_must_be_texts(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "nyu.mat")
    with h5py.File(source, "r+") as file:
        file["names"][0, 2] = file["#refs#"].ref
    with pytest.raises(UserError, match="names 3 is no text"):
        prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)
    with h5py.File(source, "r+") as file:
        file["names"][0, 2] = h5py.Reference()
    with pytest.raises(UserError, match="names"):
        prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)
    with h5py.File(source, "r+") as file:
        del file["names"]
        file["names"] = np.zeros((1, 5))
    with pytest.raises(UserError, match=r"names is float64 \[1, 5\]; expected a cell array of texts"):
        prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "nyu.mat").read_bytes()
    draw = np.random.default_rng(1)
    damaged = [b"", b"not a matrix" * 100, whole[:600], whole[: len(whole) // 2], whole[:-100]]
    for _ in range(12):
        bytes_ = bytearray(whole)
        for place in draw.integers(512, len(whole), 40):
            bytes_[place] = draw.integers(256)
        damaged.append(bytes(bytes_))
    refused = 0
    for n, content in enumerate(damaged):
        (tmp_path / "nyu.mat").write_bytes(content)
        try:
            prepare_nyu(tmp_path / "nyu.mat", out=tmp_path / f"out{n}", train=3, quiet=True)
        except UserError as e:
            refused += 1
            assert "nyu.mat" in str(e) and "\n" not in str(e)
    assert refused >= 8  # changed names or pixels may pass, for HDF5 keeps no checksum of them


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import photogram.data.nyu as module

    source = write_mat(tmp_path / "nyu.mat")
    prepare_nyu(source, out=tmp_path / "whole", train=3, quiet=True)
    real = module.write_image

    def failing(pixels: np.ndarray, path: Path) -> None:
        if path.stem == "0004":
            raise KeyboardInterrupt
        real(pixels, path)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_image", failing)
        with pytest.raises(KeyboardInterrupt):
            prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)
    assert not (tmp_path / "out/classes.json").exists()
    made = prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)
    assert 1 <= made.written <= 2 and made.written + made.skipped == 5
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True).written == 0


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, real = write_mat(tmp_path / "nyu.mat"), builtins.__import__

    def without(name: str, *args: object) -> object:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"needs h5py; pip install 'photogram\[nyu\]'"):
        prepare_nyu(source, out=tmp_path / "out", train=3, quiet=True)


def test_more_than_255_classes_take_16_bits(tmp_path: Path) -> None:
    source = write_mat(tmp_path / "nyu.mat")
    names = [f"thing {n}" for n in range(300)]
    with h5py.File(source, "r+") as file:
        del file["names"], file["#refs#"]
        write_cells(file, "names", names)
    made = prepare_nyu(source, out=tmp_path / "out", top=300, train=3, quiet=True)
    assert len(made.classes) == 301
    layout = read_labels(tmp_path / "out/train/layouts/0001.png")
    assert layout.max() == 300 and np.array_equal(layout == 300, scenes()[1][0] == 0)


def test_objects_are_numbered_by_label_and_number() -> None:
    labels = np.array([[0, 7, 7, 2, 2, 0, 7]], np.uint16)
    numbers = np.array([[3, 2, 1, 1, 1, 0, 2]], np.uint8)
    assert scene_objects(labels, numbers).tolist() == [[0, 3, 2, 1, 1, 0, 3]]
    assert scene_objects(labels[:, 1:3], numbers[:, 1:3]).tolist() == [[2, 1]]  # nothing unlabelled
