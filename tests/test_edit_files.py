"""Edit sessions as files: opened as they were saved, refused where they are damaged or of another network."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_painter import CAR, LEFT, ROAD, TinyPainter, bits, painter, spec, street

from photogram.editing import EditSession
from photogram.errors import UserError
from photogram.scene import Layout, SceneSpec


def edited() -> EditSession:
    one = EditSession(painter(), street(), seed=6, style="drawn")
    one.add(np.ones((4, 4), dtype=bool), CAR, 2, (50, 30))
    one.set_class_style(ROAD, (0.1, 0.2, 0.3))
    return one


def test_a_session_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    one = edited()
    one.save(tmp_path / "street.npz")
    again = EditSession.load(tmp_path / "street.npz", painter())
    assert bits(again) == bits(one) and again.seed == 6 and again.state.things == one.state.things
    assert torch.equal(again.render().photo, one.render().photo)
    assert again.brush(CAR, [(2, 2)], 3) == one.brush(CAR, [(2, 2)], 3), "the next number is the next"
    assert again.undo() and not again.undo(), "steps are not kept"
    one.save(tmp_path / "street.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["street.npz"]


def test_a_session_of_a_network_without_styles_is_kept(tmp_path: Path) -> None:
    one = EditSession(TinyPainter(spec(), style_channels=0), street())
    one.move(LEFT, 3, 3)
    one.save(tmp_path / "a.npz")
    assert bits(EditSession.load(tmp_path / "a.npz", one.generator)) == bits(one)


def test_a_session_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    edited().save(path)
    other = painter()
    with torch.no_grad():
        other.gain.fill_(0.5)
    with pytest.raises(UserError, match=r"was made with TinyPainter \w{12}, but this is TinyPainter"):
        EditSession.load(path, other)
    assert EditSession.load(path, other, strict=False).style_of(LEFT) == edited().style_of(LEFT)
    classes = SceneSpec((*spec().classes[:4], spec().classes[0]), (48, 64))
    with pytest.raises(UserError, match="other classes"):
        EditSession.load(path, TinyPainter(classes), strict=False)
    with pytest.raises(UserError, match=r"styles of 3 numbers by objects, but the network 5 classes, .* by classes"):
        EditSession.load(path, painter(style_by="classes"), strict=False)
    with pytest.raises(UserError, match="styles of 3 numbers by objects, but the network 5 classes, styles of 2"):
        EditSession.load(path, TinyPainter(spec(), style_channels=2), strict=False)


def test_files_that_are_no_sessions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    edited().save(path)
    whole = path.read_bytes()
    with pytest.raises(UserError, match=r"sessions are \.npz files; call it a\.npz"):
        edited().save(tmp_path / "a.zip")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match=r"runs: is a folder; give a file in it, such as .*runs.edit\.npz$"):
        edited().save(tmp_path / "runs")
    for name, bytes_ in (("e1.png", b"\x89PNG\r\n"), ("empty.npz", b""), ("a.npz", b"\x93NUMPY")):
        (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(UserError, match=rf"{name}: is no edit session; give a \.npz that EditSession\.save wrote$"):
            EditSession.load(tmp_path / name, painter())
    with pytest.raises(UserError, match=r"cannot be written"):
        edited().save(tmp_path / "nowhere" / "a.npz")
    with pytest.raises(UserError, match="cannot be read"):
        EditSession.load(tmp_path / "missing.npz", painter())
    for cut in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        said = r"is damaged or cut short" if cut > 1 else "is no edit session"
        with pytest.raises(UserError, match=rf"street\.npz: {said}"):
            EditSession.load(path, painter())


def changed(path: Path, **arrays: object) -> None:
    """The saved session with other arrays in it; `None` leaves one out."""
    with np.load(path) as old:
        kept = {name: old[name] for name in old.files}
    if isinstance(session := arrays.get("session"), dict):
        arrays["session"] = np.frombuffer(
            json.dumps(json.loads(kept["session"].tobytes()) | session).encode(), np.uint8
        )
    kept |= arrays
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"session": {"format": 2}}, "has format 2; this version of photogram reads 1"),
        ({"styles": None}, "no edit session"),
        ({"more": np.zeros(3)}, "no edit session"),
        ({"classes": np.full((48, 64), 5, dtype=np.uint8)}, r"only classes 0\.\.4"),
        ({"classes": np.zeros((48, 64))}, "classes are float64"),
        ({"classes": np.zeros((4, 4), dtype=np.uint8)}, r"instances are int32 \[48, 64\]"),
        ({"session": {"fresh": 3}}, "fresh is 3"),
        ({"session": {"things": ["car"]}}, "only classes"),
        ({"session": {"style_by": "pixels"}}, "style_by"),
        ({"session": {"seed": -1}}, "seed is -1"),
        ({"session": {"network": "x"}}, "does not say with which network"),
        ({"defaults": np.full((5, 3), np.nan, dtype=np.float32)}, "not finite"),
        ({"classes": np.array([[{"a": 1}]], dtype=object)}, "damaged"),
    ],
)
def test_sessions_that_were_tampered_with_are_refused(tmp_path: Path, change: dict, said: str) -> None:
    path = tmp_path / "street.npz"
    edited().save(path)
    changed(path, **change)
    with pytest.raises(UserError, match=said):
        EditSession.load(path, painter())


def test_json_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "street.npz"
    for said in (b"[" * 200_000, b'{"format":' + b"[" * 200_000, b'{"format": [1]}'):
        edited().save(path)
        changed(path, session=np.frombuffer(said, np.uint8))
        with pytest.raises(UserError, match=r"street\.npz: is no edit session, or damaged"):
            EditSession.load(path, painter())


def test_an_archive_that_says_that_it_is_huge_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "street.npz"
    edited().save(path)
    monkeypatch.setattr("photogram.edit_files._MOST", 10_000)
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        EditSession.load(path, painter())
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("unpacked"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("evil.npy", b"")
    path.write_bytes(packed.getvalue())
    with pytest.raises(UserError, match="no edit session"):
        EditSession.load(path, painter())


def test_a_state_of_more_than_256_classes_is_kept_whole(tmp_path: Path) -> None:
    many = SceneSpec(tuple(spec().classes[0] for _ in range(300)), (8, 8), instances=True)
    network = TinyPainter(many)
    one = EditSession(network, Layout(torch.full((1, 8, 8), 299)))
    one.brush(270, [(4, 4)], 3)
    one.save(tmp_path / "a.npz")
    again = EditSession.load(tmp_path / "a.npz", network)
    assert again.regions == {(270, 0): 9, (299, 0): 55}
    assert torch.equal(again.render().photo, one.render().photo)
