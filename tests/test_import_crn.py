"""The authors' networks out of TensorFlow checkpoints: layouts of variables, equal paintings, and clear refusals."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorflow_writer import saved_by_tensorflow, write_checkpoint, write_hollow

from photogram.data.known_classes import cityscapes_19
from photogram.errors import UserError
from photogram.interop.crn import Form, import_crn, read_crn, read_form, variables
from photogram.interop.tensorflow import open_checkpoint
from photogram.recipes import load
from photogram.scene import Layout, to_pixels

WIDE = (1024, 1024, 1024, 1024, 1024, 512, 512, 128, 32)
Shapes = dict[str, tuple[int, ...]]
Values = dict[str, np.ndarray]


def shapes(widths: tuple[int, ...], images: int, trained_from: int = 4, start: int = 4) -> Shapes:
    """The variables of the specification's section 9.1, with Adam's slots for modules from `trained_from` rows on."""
    found: Shapes = {}
    before = 0
    for n, width in enumerate(widths):
        s = start * 2**n
        for conv, channels in ((f"g_{s}_conv1", before + 20), (f"g_{s}_conv2", width)):
            found[f"{conv}/weights"] = (3, 3, channels, width)
            found[f"{conv}/LayerNorm/gamma"] = found[f"{conv}/LayerNorm/beta"] = (width,)
        before = width
    last = start * 2 ** (len(widths) - 1)
    found[f"g_{last}_conv100/weights"] = (1, 1, before, 3 * images)
    found[f"g_{last}_conv100/biases"] = (3 * images,)
    trained = [name for name in found if int(name.split("_")[1]) >= trained_from]
    slots = {f"{name}/{slot}": found[name] for name in trained for slot in ("Adam", "Adam_1")}
    return found | slots | {"beta1_power": (), "beta2_power": ()}


def drawn(widths: tuple[int, ...] = (6, 5, 4), images: int = 2, start: int = 2, adam: bool = True) -> Values:
    """A small cascade's variables, at random."""
    random = np.random.default_rng(5)
    made = {
        name: random.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in shapes(widths, images, 4, start).items()
    }
    return made if adam else {n: v for n, v in made.items() if "Adam" not in n and "power" not in n}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "crn").mkdir()
    write_checkpoint(tmp_path / "crn" / "model.ckpt", drawn())
    return tmp_path / "crn" / "model.ckpt"


# --- the released layouts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modules", "images", "trained_from", "model_variables", "parameters", "entries", "length"),
    (
        pytest.param(7, 9, 4, 44, 97_875_483, 134, 1_174_505_804, id="256p"),
        pytest.param(7, 9, 4, 44, 97_875_483, 134, 1_174_505_804, id="gta"),
        pytest.param(8, 1, 4, 50, 98_622_851, 152, 1_183_474_220, id="512p"),
        pytest.param(9, 1, 512, 56, 98_674_531, 86, 401_201_324, id="1024p"),
    ),
)
def test_the_released_layouts_are_known(
    tmp_path, modules, images, trained_from, model_variables, parameters, entries, length
):
    """Names, shapes and totals of the table in section 9.1, on an index whose data is a hole."""
    assert write_hollow(tmp_path / "m", shapes(WIDE[:modules], images, trained_from)) == length
    checkpoint = open_checkpoint(tmp_path / "m")
    form = read_form(checkpoint)
    assert form == Form(tuple(4 * 2**n for n in range(modules)), WIDE[:modules], images)
    assert form.size == (4 * 2 ** (modules - 1), 8 * 2 ** (modules - 1))
    assert len(checkpoint.entries) == entries
    wanted = variables(form)
    assert len(wanted) == model_variables
    assert sum(int(np.prod(variable.shape)) for variable in wanted.values()) == parameters
    with torch.device("meta"):
        network = network_of(form)
    ours = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert ours == {variable.ours: turned(variable.shape) for variable in wanted.values()}
    assert sum(p.numel() for p in network.parameters()) == parameters


def network_of(form: Form) -> torch.nn.Module:
    from photogram.interop.crn import _network

    return _network(form)


def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height, width, in, out to out, in, height, width."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


def all_images(network: Any, classes: np.ndarray) -> np.ndarray:
    """Everything that a network paints of a layout [h, w], [k, h, w, 3] in [-1, 1]."""
    with torch.inference_mode():
        images = network(Layout(torch.from_numpy(classes)[None]))
    return images.reshape(-1, 3, *classes.shape).movedim(1, -1).numpy()


# --- equal paintings -------------------------------------------------------------------------------------------------


def painted(values: Values, classes: np.ndarray, rows: list[int]) -> np.ndarray:
    """What the authors' graph computes of a layout [h, w]: images [k, h, w, 3] on 0..255, in float64, from kernels as
    they lie in the checkpoint. Written after sections 2.2 and 4, without torch and without our network."""
    layouts = {rows[-1]: (classes[..., None] == np.arange(20)).astype(np.float64)}
    for s in reversed(rows[:-1]):  # the mean of 2 x 2
        fine = layouts[2 * s]
        layouts[s] = (fine[0::2, 0::2] + fine[1::2, 0::2] + fine[0::2, 1::2] + fine[1::2, 1::2]) / 4
    x: np.ndarray = np.zeros((*layouts[rows[0]].shape[:2], 0))
    for s in rows:
        x = np.concatenate([twice(x) if x.shape[2] else x, layouts[s]], axis=2)
        for conv in (1, 2):
            name = f"g_{s}_conv{conv}"
            x = convolved(x, values[f"{name}/weights"])
            x = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
            x = x * values[f"{name}/LayerNorm/gamma"] + values[f"{name}/LayerNorm/beta"]
            x = np.maximum(0.2 * x, x)
    z = x @ values[f"g_{rows[-1]}_conv100/weights"][0, 0] + values[f"g_{rows[-1]}_conv100/biases"]
    k = z.shape[2] // 3
    return np.stack([255 * (z[..., [u, k + u, 2 * k + u]] + 1) / 2 for u in range(k)])


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3 x 3, zeros around, [h, w, in] by [3, 3, in, out]; cross-correlation."""
    around = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    h, w = x.shape[:2]
    taps = [around[i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3)]
    return np.sum(taps, axis=0)


def twice(x: np.ndarray) -> np.ndarray:
    """Twice the size, bilinear; corners stay corners."""

    def along(axis: int, x: np.ndarray) -> np.ndarray:
        n = x.shape[axis]
        place = np.arange(2 * n) * (n - 1) / (2 * n - 1)
        low = np.minimum(place.astype(int), max(n - 2, 0))
        part = (place - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        return np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, n - 1), axis) * part

    return along(1, along(0, x))


def scene(rows: int) -> np.ndarray:
    """A layout with every class in patches."""
    random = np.random.default_rng(11)
    return random.integers(0, 20, (rows // 2, rows)).repeat(2, 0).repeat(2, 1).astype(np.uint8)


@pytest.mark.parametrize(
    ("widths", "images", "start"),
    (
        pytest.param((6, 5, 4), 1, 2, id="one image"),
        pytest.param((6, 5, 4), 2, 2, id="two images"),
        pytest.param((8, 8, 8), 9, 4, id="nine images"),
        pytest.param((7,), 1, 8, id="one module"),
    ),
)
def test_the_network_paints_as_the_authors_graph_does(tmp_path, widths, images, start):
    values = drawn(widths, images, start)
    write_checkpoint(tmp_path / "m", values)
    form, network = read_crn(open_checkpoint(tmp_path / "m"))
    rows = [start * 2**n for n in range(len(widths))]
    assert form == Form(tuple(rows), widths, images)
    classes = scene(rows[-1])
    wanted = painted(values, classes, rows)
    found = 127.5 * (all_images(network.double(), classes) + 1)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-7, "grey levels, in float64"
    assert wanted.std() > 5 and (images == 1 or np.abs(wanted[0] - wanted[1]).mean() > 5), "there is much to see"


def test_a_published_network_paints_the_authors_pixels(tmp_path, source):
    """In float32, through the files, as bytes: at most a rounding apart, and nearly nowhere."""
    import_crn(source, out=tmp_path / "out", quiet=True)
    network = load(tmp_path / "out")
    classes = scene(8)
    wanted = np.floor(painted(drawn(), classes, [2, 4, 8]).clip(0, 255) + 0.5)
    layout = Layout(torch.from_numpy(classes)[None])
    found = to_pixels(network.sample(layout, options=network.Options(candidates="all")))[0].numpy()
    apart = np.abs(found - wanted)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01
    second = to_pixels(network.sample(layout, options=network.Options(candidates=1)))[0].numpy()
    assert np.array_equal(second, found[1])


def test_adams_memory_changes_nothing(tmp_path):
    write_checkpoint(tmp_path / "with", drawn())
    write_checkpoint(tmp_path / "without", drawn(adam=False))
    networks = [read_crn(open_checkpoint(tmp_path / name))[1].state_dict() for name in ("with", "without")]
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


# --- what is published -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ("crn", "crn/model.ckpt", "crn/model.ckpt.index", "crn/model.ckpt.meta"))
def test_an_import_is_published(tmp_path, source, given):
    made = import_crn(tmp_path / given, out=tmp_path / "new" / "out", quiet=True)
    assert made.out == tmp_path / "new" / "out"
    assert made.form == Form((2, 4, 8), (6, 5, 4), 2)
    values = drawn()
    assert made.parameters == sum(v.size for v in drawn(adam=False).values())
    assert made.passed_over == len(values) - len(drawn(adam=False)) > 0
    network = load(made.out)
    assert network.spec.classes == cityscapes_19() and network.spec.void == 19
    assert network.spec.size == (8, 16)
    assert sorted(p.name for p in made.out.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_the_card_says_where_it_is_from(tmp_path, source):
    import_crn(source, out=tmp_path / "out", quiet=True)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(Path(f"{source}.index").read_bytes()).hexdigest()
    for words in (
        digest,
        "model.ckpt.data-00000-of-00001",
        "8 x 16",
        "2 images",
        "- 0: road",
        "- 19: unlabelled (void)",
    ):
        assert words in card
    assert "not photogram's" in card and str(tmp_path) not in card


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path, source):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"out: is not empty \(mine.txt is there\)"):
        import_crn(source, out=out)
    with pytest.raises(UserError, match="is a file, not a folder"):
        import_crn(source, out=out / "mine.txt")
    with pytest.raises(UserError, match="is not empty"):
        import_crn(source, out=source.parent)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_an_empty_folder_will_do_also_after_a_crash(tmp_path, source):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".model.safetensors.123.partial").write_bytes(b"half")
    import_crn(source, out=out, quiet=True)
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize("there", (False, True))
@pytest.mark.parametrize("error", (OSError(28, "No space left on device"), KeyboardInterrupt()))
def test_nothing_half_written_stays(tmp_path, source, monkeypatch, there, error):
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def full(weights: dict[str, Any]) -> bytes:
        assert (out / "config.json").exists()
        raise error

    monkeypatch.setattr("safetensors.torch.save", full)
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        import_crn(source, out=out, quiet=True)
    if isinstance(error, OSError):
        assert str(raised.value) == f"{out}: cannot be written (No space left on device); give another --out"
    assert out.exists() == there and (not there or not list(out.iterdir()))
    monkeypatch.undo()
    import_crn(source, out=out, quiet=True)


def test_a_refused_checkpoint_leaves_no_folder(tmp_path, source):
    data = Path(f"{source}.data-00000-of-00001")
    whole = bytearray(data.read_bytes())
    whole[open_checkpoint(source).entries["g_4_conv1/weights"].offset + 100] ^= 1
    data.write_bytes(whole)
    with pytest.raises(UserError, match="the checksum of 'g_4_conv1/weights' does not agree"):
        import_crn(source, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


# --- what is refused -------------------------------------------------------------------------------------------------


def renamed(before: str, after: str) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for name in [n for n in values if before in n]:
            values[name.replace(before, after)] = values.pop(name)

    return change


def reshaped(name: str, *shape: int, dtype: str = "float32") -> Callable[[Values], None]:
    return lambda values: values.update({name: np.zeros(shape, dtype)})


def without(part: str) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        for name in [name for name in values if part in name]:
            del values[name]

    return change


def filled(name: str, value: float) -> Callable[[Values], None]:
    return lambda values: values[name].fill(value)


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (without("g_4_conv1/weights"), r"'g_4_conv1/weights' is missing \(1 such\)"),
        (without("g_4_conv2/LayerNorm"), "'g_4_conv2/LayerNorm/gamma' is missing"),
        (without("g_4_"), "modules of 2 and 8 rows, but none between; the variables g_4_conv1/... are missing"),
        (without("conv100/biases"), "'g_8_conv100/biases' is missing"),
        (without("conv100/weights"), "'g_8_conv100/weights' is missing"),
        (without("conv100"), "'g_8_conv100/biases' is missing"),
        (without("g_"), "is no CRN: no variable is named as g_4_conv1/weights is; it has 'beta1_power'"),
        (renamed("g_8", "g_6"), "modules of 4 and 6 rows"),
        (renamed("LayerNorm", "BatchNorm"), "'g_2_conv2/LayerNorm/gamma' is missing"),
        (reshaped("vgg/conv1", 3), r"'vgg/conv1' is unknown \(1 such\)"),
        (reshaped("g_4_conv100/biases", 6), "'g_4_conv100/biases' is unknown"),
        (reshaped("g_04_conv1/weights", 6), "'g_04_conv1/weights' is unknown"),
        (reshaped("g_4_conv1/biases", 5), "'g_4_conv1/biases' is unknown"),
        (reshaped("vgg/conv1/Adam", 3), "'vgg/conv1/Adam' is unknown"),
        (reshaped("g_4_conv1/weights/Adam_2", 3), "'g_4_conv1/weights/Adam_2' is unknown"),
        (reshaped("g_4_conv1/weights/Adam", 3), r"'g_4_conv1/weights/Adam' is \[3\], but the other variables ask for"),
        (
            reshaped("g_4_conv1/weights", 3, 3, 6, 5),
            r"'g_4_conv1/weights' is \[3, 3, 6, 5\], but the other variables ask for \[3, 3, 26, 5\]",
        ),
        (
            reshaped("g_2_conv1/weights", 3, 3, 41, 6),
            r"\[3, 3, 41, 6\], but the other variables ask for \[3, 3, 20, 6\]",
        ),
        (reshaped("g_4_conv2/LayerNorm/beta", 1, 5), r"beta' is \[1, 5\], but the other variables ask for \[5\]"),
        (reshaped("g_4_conv2/LayerNorm/gamma", 1, 5), r"gamma' is \[1, 5\]; it must be one dimension"),
        (reshaped("g_4_conv2/LayerNorm/gamma", 0), r"gamma' is \[0\]; it must be one dimension, 1 or more"),
        (reshaped("g_8_conv100/biases", 7), "has 7 outputs; it must be 3 colours for each image"),
        (reshaped("g_8_conv100/biases", 9), r"'g_8_conv100/weights' is \[1, 1, 4, 6\], but .* ask for \[1, 1, 4, 9\]"),
        (reshaped("g_4_conv2/LayerNorm/beta", 5, dtype="float64"), "beta' is of float64; it must be float32"),
        (filled("g_4_conv2/weights", np.nan), "'g_4_conv2/weights' holds values that are not finite"),
        (filled("g_8_conv100/biases", -np.inf), "'g_8_conv100/biases' holds values that are not finite"),
    ),
)
def test_other_networks_are_refused_by_name(tmp_path, change, message):
    values = drawn()
    change(values)
    write_checkpoint(tmp_path / "m", values)
    with pytest.raises(UserError, match=message) as refused:
        import_crn(tmp_path / "m", out=tmp_path / "out", quiet=True)
    assert str(refused.value).startswith(f"{tmp_path / 'm'}.index: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_what_adam_left_may_hold_anything(tmp_path):
    """It is not even read."""
    values = drawn()
    filled("g_8_conv1/weights/Adam", np.nan)(values)
    write_checkpoint(tmp_path / "m", values)
    read_crn(open_checkpoint(tmp_path / "m"))


@pytest.mark.parametrize(
    ("made", "message"),
    (
        (shapes((1,), 1, start=16384), "16384 x 32768 pixels are more than the limit of 134,217,728"),
        (
            shapes((20_000,), 1),
            "has 3,603,740,003 parameters, more than the limit of 1,073,741,824; refused",
        ),
    ),
)
def test_networks_beyond_all_measure_are_refused_at_once(tmp_path, made, message):
    write_hollow(tmp_path / "m", made)
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        import_crn(tmp_path / "m", out=tmp_path / "out", quiet=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_reading_takes_the_memory_of_the_weights(tmp_path):
    """And of the largest of them twice over, and some megabytes for the checksum. Adam's part is left where it is."""
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes((192, 192, 192), 1, trained_from=16).items()}
    write_checkpoint(tmp_path / "m", values)
    own = sum(v.nbytes for name, v in values.items() if "Adam" not in name)
    largest = max(v.nbytes for v in values.values())
    source = open_checkpoint(tmp_path / "m")
    tracemalloc.start()
    read_crn(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < own + 2 * largest + 5e6
    assert own > 7e6, "the bound says something"


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed; it is never needed")
def test_what_tensorflow_writes_is_imported(tmp_path):
    """Their writer and ours make the same network."""
    values = drawn((8, 8, 8), 9, 4)
    saved_by_tensorflow(tmp_path / "theirs", values)
    write_checkpoint(tmp_path / "ours", values)
    (form, theirs), (_, ours) = (read_crn(open_checkpoint(tmp_path / name)) for name in ("theirs", "ours"))
    assert form == Form((4, 8, 16), (8, 8, 8), 9)
    assert all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True))
