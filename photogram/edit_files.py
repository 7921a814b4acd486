"""Edit sessions as files: a .npz of plain arrays and JSON, nothing of which is executed when it is opened."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from photogram.edits import Region, State, Style
from photogram.errors import UserError
from photogram.images import PIXEL_LIMIT, replacing
from photogram.outputs import writing

FORMAT = 1
_ZIP = b"PK"  # how archives begin
SUFFIX = ".npz"
_ARRAYS = ("classes", "instances", "regions", "styles", "defaults", "session")
_MOST = 8 * PIXEL_LIMIT  # bytes of a session's arrays; classes and numbers take 5 a pixel


def write_session(path: str | Path, state: State, about: Mapping[str, object]) -> None:
    """Write a state, beside its place and then renamed.

    Args:
        path: the file, NAME.npz.
        state: to be kept.
        about: what is to be known besides, as JSON has it: network, seed, instances.

    Raises:
        UserError: where it cannot be written, or is called otherwise.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file in it, such as {path / 'edit.npz'}")
    if path.suffix != SUFFIX:
        raise UserError(f"{path}: sessions are .npz files; call it {path.with_suffix(SUFFIX).name}")
    regions = sorted(state.styles)
    session = {
        **about,
        "format": FORMAT,
        "things": sorted(state.things),
        "void": state.void,
        "style_by": state.style_by,
        "fresh": state.fresh,
    }
    channels = len(state.defaults[0])
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        classes=state.classes,
        instances=state.instances,
        regions=np.array(regions, dtype=np.int64).reshape(-1, 2),
        styles=np.array([state.styles[region] for region in regions], dtype=np.float32).reshape(len(regions), channels),
        defaults=np.array(state.defaults, dtype=np.float32),
        session=np.frombuffer(json.dumps(session).encode(), dtype=np.uint8),
    )
    with writing(path, "give another file"), replacing(path) as file:
        file.write(packed.getvalue())


def read_session(path: str | Path) -> tuple[State, dict[str, Any]]:
    """Read what `write_session` wrote.

    Raises:
        UserError: where there is no such file, it is damaged or no session, or a later version wrote it.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    try:
        about = json.loads(arrays["session"].tobytes())
        assert isinstance(about, dict)
        format = about["format"]
        assert type(format) is int
    except (ValueError, KeyError, AssertionError, RecursionError):  # the last of JSON that is nested too deeply
        raise UserError(f"{path}: is no edit session, or damaged") from None
    if format != FORMAT:
        raise UserError(f"{path}: has format {format}; this version of photogram reads {FORMAT}")
    try:
        return _state(arrays, about), about
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path}: is damaged ({e})") from None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a session, once it is known how much there is of them."""
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:  # said by itself: such a file is another one, and not damaged
                raise UserError(f"{path}: is no edit session; give a .npz that EditSession.save wrote")
        with zipfile.ZipFile(path) as archive:
            listed = {entry.filename: entry.file_size for entry in archive.infolist()}
        if set(listed) != {f"{name}.npy" for name in _ARRAYS} or sum(listed.values()) > _MOST:
            raise UserError(f"{path}: is no edit session: other arrays are in it, or more than {_MOST:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in _ARRAYS}
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror or e})") from None
    except UserError:
        raise
    except Exception as e:  # a damaged archive raises of many kinds: BadZipFile, zlib.error, EOFError, ValueError, ...
        raise UserError(f"{path}: is damaged or cut short ({' '.join(str(e).split())})") from None


def _state(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> State:
    """The state, every part of which is checked: a `ValueError` says what is wrong."""
    classes, instances, defaults = arrays["classes"], arrays["instances"], arrays["defaults"]
    regions, styles = arrays["regions"], arrays["styles"]
    if classes.dtype not in (np.uint8, np.int32) or classes.ndim != 2 or not classes.size:
        raise ValueError(f"classes are {classes.dtype} {list(classes.shape)}")
    if instances.dtype != np.int32 or instances.shape != classes.shape:
        raise ValueError(f"instances are {instances.dtype} {list(instances.shape)}, classes {list(classes.shape)}")
    if defaults.dtype != np.float32 or defaults.ndim != 2 or not len(defaults):
        raise ValueError(f"defaults are {defaults.dtype} {list(defaults.shape)}")
    if regions.dtype != np.int64 or regions.shape != (len(styles), 2):
        raise ValueError(f"regions are {regions.dtype} {list(regions.shape)} of {len(styles)} styles")
    if styles.dtype != np.float32 or styles.shape[1:] != defaults.shape[1:]:
        raise ValueError(f"styles are {styles.dtype} {list(styles.shape)}")
    things, void, fresh = about["things"], about["void"], about["fresh"]
    labels = [
        int(classes.min()),
        int(classes.max()),
        *regions[:, 0].tolist(),
        *things,
        *([] if void is None else [void]),
    ]
    if not all(type(label) is int and 0 <= label < len(defaults) for label in labels):
        raise ValueError(f"there are only classes 0..{len(defaults) - 1}")
    if type(fresh) is not int or fresh <= int(instances.max()) or fresh < 1:
        raise ValueError(f"fresh is {fresh!r}, but there is an object {int(instances.max())}")
    if about["style_by"] not in ("objects", "classes") or type(about["instances"]) is not bool:
        raise ValueError(f"style_by is {about['style_by']!r}, instances {about['instances']!r}")
    if not (np.isfinite(styles).all() and np.isfinite(defaults).all()):
        raise ValueError("styles are not finite")
    own: dict[Region, Style] = {
        (int(label), int(number)): tuple(style)
        for (label, number), style in zip(regions.tolist(), styles.tolist(), strict=True)
    }
    rows = tuple(tuple(row) for row in defaults.tolist())
    return State(classes, instances, own, rows, frozenset(things), void, about["style_by"], fresh)


def check_network(path: str | Path, about: Mapping[str, Any], ours: Mapping[str, object], strict: bool) -> None:
    """Refuse a session that was made with another network.

    Args:
        path: for messages.
        about: of the session's file.
        ours: the network that is to go on with it.
        strict: whether its weights must be the same, too.

    Raises:
        UserError: saying in what they differ.
    """
    theirs = about.get("network")
    if not isinstance(theirs, dict) or set(theirs) != set(ours):
        raise UserError(f"{path}: does not say with which network it was made")
    if theirs["classes"] != ours["classes"]:
        raise UserError(f"{path}: was made with a network of other classes; open it with that one")
    if strict and (theirs["name"], theirs["weights"]) != (ours["name"], ours["weights"]):
        was, now = (f"{n['name']} {str(n['weights'])[:12]}" for n in (theirs, ours))
        raise UserError(
            f"{path}: was made with {was}, but this is {now}, whose styles may mean something else; open it with that "
            "network, or with strict=False"
        )


def seed_of(path: str | Path, about: Mapping[str, Any]) -> int:
    """The seed of a session.

    Raises:
        UserError: where it is none.
    """
    seed = about.get("seed")
    if type(seed) is not int or not 0 <= seed < 1 << 63 or not math.isfinite(seed):
        raise UserError(f"{path}: is damaged (seed is {seed!r})")
    return seed
