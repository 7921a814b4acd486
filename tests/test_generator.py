"""What every published network promises, shown on the cascade and on two small generators made for the purpose."""

from __future__ import annotations

import inspect
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import photogram
from photogram.errors import UserError
from photogram.generator import CARD, CONFIG, WEIGHTS, Generator, NoOptions, _fits
from photogram.recipes import load
from photogram.recipes.crn import CascadedRefinementNetwork
from photogram.scene import Condition, Layout, SceneClass, SceneSpec

SPEC = SceneSpec(
    (
        SceneClass("sky", (70, 130, 180)),
        SceneClass("road", (128, 64, 128)),
        SceneClass("void", (0, 0, 0), void=True),
    ),
    size=(16, 24),
)
NO_VOID = replace(SPEC, classes=SPEC.classes[:2])


def cascade(spec: SceneSpec = SPEC, seed: int = 0) -> CascadedRefinementNetwork:
    torch.manual_seed(seed)
    return CascadedRefinementNetwork(spec=spec, widths=(6, 5, 4))


def random_layout(height: int, width: int, classes: int = 2, n: int = 1) -> Layout:
    noise = torch.Generator().manual_seed(height * 100 + width)
    return Layout(torch.randint(classes, (n, height, width), generator=noise, dtype=torch.uint8))


class Noise(Generator):
    """Paints nothing but noise, brighter or darker: without a condition, or beside an image."""

    @dataclass(frozen=True)
    class Options(NoOptions):
        light: float = 0.0

    def __init__(self, *, spec: SceneSpec, gain: float = 0.1):
        super().__init__()
        self.spec, self.gain = spec, gain
        self.scale = nn.Parameter(torch.ones(1))
        self.painted: Condition | None = None
        self.modes: list[bool] = []

    @property
    def size_multiple(self) -> int:
        return 8

    def paint(self, condition: Condition, noise: torch.Generator, options: object) -> Tensor:
        assert isinstance(options, Noise.Options)
        self.painted = condition
        self.modes.append(self.training)
        size = condition.size or self.spec.size
        return torch.randn(1, 3, *size, generator=noise) * self.gain * self.scale + options.light


FREE = SceneSpec(size=(8, 16))
SKETCH = SceneSpec(size=(8, 16), image_channels=2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    cascade().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


# Saved and loaded.


def test_saved_and_loaded_it_paints_the_same_pixels(saved: Path):
    network, layout = cascade(), random_layout(16, 24, 3, n=2)
    for opened in (CascadedRefinementNetwork.from_pretrained(saved), load(saved), photogram.load(str(saved))):
        assert type(opened) is CascadedRefinementNetwork and not opened.training
        assert (opened.spec, opened.widths) == (network.spec, network.widths)  # tuples, not JSON's lists
        assert torch.equal(opened.sample(layout), network.sample(layout))
        assert all(p.requires_grad and p.device.type == "cpu" for p in opened.parameters())


def test_what_is_written_is_json_weights_and_text_and_no_pickle(saved: Path):
    assert sorted(p.name for p in saved.iterdir()) == sorted([CONFIG, WEIGHTS, CARD])
    config = json.loads((saved / CONFIG).read_text())
    assert config["format"] == 1 and config["network"] == "CascadedRefinementNetwork"
    assert config["arguments"] == json.loads(json.dumps({"spec": SPEC.to_json(), "widths": [6, 5, 4], "candidates": 1}))
    raw = (saved / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert set(header) == set(cascade().state_dict())
    numbers = sum(p.numel() for p in cascade().parameters())
    assert len(raw) == 8 + length + 4 * numbers  # a header of JSON and the numbers: there is room for nothing else
    assert (saved / CARD).read_text() == "# CascadedRefinementNetwork\n"


def test_a_model_card_is_kept_and_saving_again_replaces_all(saved: Path):
    other = cascade(NO_VOID, seed=1)
    other.save_pretrained(saved, card="# Painted by day\n")
    assert (saved / CARD).read_text() == "# Painted by day\n"
    opened = load(saved)
    assert opened.spec == NO_VOID
    assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), other.parameters(), strict=True))


def test_channels_last_weights_are_saved_as_the_same_numbers(tmp_path: Path):
    network = cascade()
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network.save_pretrained(tmp_path)
    for name, tensor in load(tmp_path).state_dict().items():
        assert torch.equal(tensor, cascade().state_dict()[name])


def test_a_network_that_no_recipe_publishes_is_opened_by_its_class_alone(tmp_path: Path):
    Noise(spec=FREE, gain=0.25).save_pretrained(tmp_path)
    opened = Noise.from_pretrained(tmp_path)
    assert (opened.spec, opened.gain) == (FREE, 0.25)
    with pytest.raises(UserError, match=r"config\.json: holds a Noise; this version knows .*CascadedRefinementNetwork"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"config\.json: holds a Noise, not a CascadedRefinementNetwork"):
        CascadedRefinementNetwork.from_pretrained(tmp_path)


# Loading is strict.


Kinds = tuple[int, str] | Literal["a", 2] | None


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (True, float, False),
        ("1", float, False),
        (True, bool, True),
        (1, bool, False),
        ((), tuple[int, ...], True),
        ((1, 2), tuple[float, ...], True),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ((1, "a"), Kinds, True),
        (("a", 1), Kinds, False),
        (None, Kinds, True),
        ("a", Kinds, True),
        ("b", Kinds, False),
        ({"a": 1}, dict[str, int], True),
        ((1,), dict[str, int], False),
    ],
)
def test_arguments_fit_the_kinds_that_constructors_ask_for(value: object, kind: object, fits: bool):
    assert _fits(value, kind) is fits


def test_an_argument_that_no_constructor_takes_is_refused_by_the_constructor_too():
    construct = inspect.unwrap(CascadedRefinementNetwork.__init__)
    for widths in (5, 2.5, None, [6, 5], "65"):
        with pytest.raises(UserError, match="must be one positive integer or more"):
            construct(CascadedRefinementNetwork.__new__(CascadedRefinementNetwork), spec=SPEC, widths=widths)


def test_a_folder_that_does_not_exist_or_holds_nothing_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "a.png").touch()
    with pytest.raises(UserError, match=r"a\.png: is a file, not a folder; give the folder of a run"):
        load(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"config\.json: no such file; .* holds no published network"):
        load(tmp_path)


def test_of_several_published_networks_one_must_be_named(tmp_path: Path):
    """As in a run of CycleGAN."""
    for name in ("b_to_a", "a_to_b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).write_text("{}")
    with pytest.raises(UserError) as e:
        load(tmp_path)
    there, back = tmp_path / "a_to_b", tmp_path / "b_to_a"
    assert str(e.value) == f"{tmp_path}: holds several published networks; give one: {there}, {back}"


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    for name, value in changes.items():
        place, _, key = name.rpartition("__")
        target = config
        for part in filter(None, place.split("__")):
            target = target[part]
        if value is ...:
            del target[key]
        else:
            target[key] = value
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2; this version of photogram reads 1"),
        ({"format": ...}, "is no photogram configuration"),
        ({"extra": 1}, "is no photogram configuration"),
        ({"network": "Pix2PixHD9"}, "holds a Pix2PixHD9; this version knows"),
        ({"arguments__widths": ...}, r"arguments \['widths'\] are unknown or missing"),
        ({"arguments__depth": 3}, r"arguments \['depth'\] are unknown or missing"),
        ({"arguments": [1, 2]}, "arguments .* are unknown or missing"),
        ({"arguments__widths": 5}, r"config\.json: widths is 5, but it must be tuple\[int, \.\.\.\]"),
        ({"arguments__widths": 2.5}, r"config\.json: widths is 2\.5, but"),
        ({"arguments__widths": None}, r"config\.json: widths is null, but"),
        ({"arguments__widths": "654"}, r'config\.json: widths is "654", but'),
        ({"arguments__widths": [6, 5.0, 4]}, r"config\.json: widths is \[6, 5\.0, 4\], but"),
        ({"arguments__widths": [6, True, 4]}, r"config\.json: widths is \[6, true, 4\], but"),
        ({"arguments__widths": [6, [5], 4]}, r"config\.json: widths is \[6, \[5\], 4\], but"),
        ({"arguments__widths": [6, -5, 4]}, r"config\.json: widths \(6, -5, 4\)"),
        ({"arguments__widths": []}, r"widths \(\)"),
        ({"arguments__widths": [6, 0, 4]}, r"widths \(6, 0, 4\)"),
        ({"arguments__spec": None}, "spec"),
        (
            {"arguments__spec__lens": 50},
            r"config\.json: scene spec: fields \['lens'\] are unknown or missing",
        ),
        ({"arguments__spec__size": ...}, r"fields \['size'\] are unknown or missing"),
        ({"arguments__widths": [6, 5, 8]}, r"model\.safetensors: .* is .*, but config\.json asks for"),
        ({"arguments__widths": [6, 5]}, r"model\.safetensors: cascade\.2\.\S+ is unknown \(6 such\)"),
        ({"arguments__widths": [6, 5, 4, 4]}, r"model\.safetensors: cascade\.3\.\S+ is missing \(6 such\)"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(saved: Path, changes: dict[str, object], message: str):
    change_config(saved, **changes)
    with pytest.raises(UserError, match=message):
        load(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_named(saved: Path, content: bytes):
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json"):
        load(saved)


def test_weights_must_have_the_same_names_shapes_and_types(saved: Path):
    whole = safetensors.torch.load_file(saved / WEIGHTS)
    bias = whole["to_rgb.bias"]
    wrong = [
        ({k: v for k, v in whole.items() if k != "to_rgb.bias"}, r"to_rgb\.bias is missing \(1 such\)"),
        ({**whole, "to_grey.bias": bias.clone()}, r"to_grey\.bias is unknown \(1 such\)"),
        ({**whole, "to_rgb.bias": bias[:2].clone()}, r"to_rgb\.bias is .*\(2,\).*asks for .*\(3,\)"),
        ({**whole, "to_rgb.bias": bias.half()}, r"to_rgb\.bias is .*float16.*asks for .*float32"),
    ]
    for weights, message in wrong:
        safetensors.torch.save_file(weights, saved / WEIGHTS)
        with pytest.raises(UserError, match=rf"model\.safetensors: {message}"):
            load(saved)


def test_damaged_and_missing_weights_are_named(saved: Path):
    whole = (saved / WEIGHTS).read_bytes()
    for damaged in (
        whole[:-100],
        whole[:50],
        b"",
        b"PK\x03\x04 is no safetensors file",
        struct.pack("<Q", 1 << 60),
    ):
        (saved / WEIGHTS).write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.safetensors: is damaged or cut short"):
            load(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        load(saved)


# Painting: any size, known classes, a seed.


@pytest.mark.parametrize("spec", [SPEC, NO_VOID], ids=["void", "no void"])
@pytest.mark.parametrize("size", [(16, 24), (17, 24), (15, 21), (1, 1), (3, 50)])
def test_other_sizes_are_padded_and_cropped_back(spec: SceneSpec, size: tuple[int, int]):
    network, layout = cascade(spec).eval(), random_layout(*size, n=2)
    photo = network.sample(layout)
    assert photo.shape == (2, 3, *size) and photo.is_contiguous() and photo.dtype == torch.float32
    # By hand: void, or what stands at the border, to the right and below.
    height, width = (-(-n // 4) * 4 for n in size)
    padded = torch.full((2, height, width), 2, dtype=torch.uint8)
    for row in range(height):
        for column in range(width):
            if (row < size[0] and column < size[1]) or spec.void is None:
                padded[:, row, column] = layout.classes[:, min(row, size[0] - 1), min(column, size[1] - 1)]
    with torch.no_grad():
        expected = network(Layout(padded))[:, 0].clamp(-1, 1)
    assert torch.equal(photo, expected[..., : size[0], : size[1]])


def test_an_unknown_class_is_refused_by_number_and_place():
    layout = random_layout(16, 24, n=2)
    layout.classes[1, 11, 7] = 3
    with pytest.raises(UserError, match=r"class 3 at \(row 11, column 7\), but there are only classes 0\.\.2"):
        cascade().sample(layout)
    negative = Layout(layout.classes.int())
    negative.classes[1, 11, 7] = -1
    with pytest.raises(UserError, match=r"class -1 at \(row 11, column 7\)"):
        cascade().sample(negative)


def test_wider_integers_and_a_whole_condition_paint_the_same():
    network, layout = cascade(), random_layout(16, 24)
    photo = network.sample(layout)
    assert torch.equal(network.sample(Layout(layout.classes.long())), photo)
    assert torch.equal(network.sample(Condition(layout=layout)), photo)


def test_the_condition_must_be_of_the_kind_that_it_was_trained_on():
    image = torch.zeros(1, 3, 16, 24)
    none = "CascadedRefinementNetwork paints from layouts, but none was given; pass a photogram.Layout"
    for condition in (None, Condition(), image):
        with pytest.raises(UserError, match=none):
            cascade().sample(condition)
    with pytest.raises(UserError, match="image has 3 channels, but the network was trained on 0"):
        cascade().sample(Condition(random_layout(16, 24), image))
    with pytest.raises(UserError, match="Noise takes no layout, but one was given"):
        Noise(spec=FREE).sample(random_layout(8, 16))
    with pytest.raises(UserError, match="image has 3 channels, but the network was trained on 2"):
        Noise(spec=SKETCH).sample(image)
    with pytest.raises(UserError, match="image has 0 channels, but the network was trained on 2"):
        Noise(spec=SKETCH).sample()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            Layout(torch.zeros(16, 24, dtype=torch.uint8)),
            r"classes is uint8 \[16, 24\]; it must be integers .*\[n, h, w\]",
        ),
        (Layout(torch.zeros(1, 1, 16, 24, dtype=torch.uint8)), r"classes is uint8 \[1, 1, 16, 24\]; it must be"),
        (Layout(torch.zeros(1, 16, 24)), r"classes is float32 \[1, 16, 24\]; it must be integers"),
        (Layout(torch.zeros(1, 16, 24, dtype=torch.bool)), "classes is bool .*; it must be integers"),
        (Layout(torch.zeros(1, 0, 0, dtype=torch.uint8)), r"layout is empty: classes is uint8 \[1, 0, 0\]"),
        (Layout(torch.zeros(0, 16, 24, dtype=torch.uint8)), r"layout is empty: classes is uint8 \[0, 16, 24\]"),
        (Layout(np.zeros((1, 16, 24), np.uint8)), "classes is a ndarray; it must be integers"),  # type: ignore[arg-type]
        (Layout(None), "classes is a NoneType; it must be integers"),  # type: ignore[arg-type]
        (
            Layout(torch.zeros(1, 8, 8).int(), torch.zeros(1, 8, 9).int()),
            r"instances is int32 \[1, 8, 9\], but classes",
        ),
        (
            Layout(torch.zeros(1, 8, 8).int(), torch.full((1, 8, 8), 3_000_000_000)),
            "instances has numbers 3000000000 to 3000000000; they must fit 32 bits",
        ),
        (Layout(torch.zeros(1, 8, 8).int(), torch.zeros(1, 8, 8)), "instances is float32 .*; it must be integers"),
        (Condition(torch.zeros(1, 16, 24).byte()), "layout is a Tensor; pass a photogram.Layout"),  # type: ignore[arg-type]
    ],
)
def test_a_layout_of_another_form_is_refused(condition: Layout | Condition, message: str):
    with pytest.raises(UserError, match=message):
        cascade().sample(condition)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 8, 16), r"image is float32 \[2, 8, 16\]; it must be floating-point \[n, channels, h, w\]"),
        (torch.zeros(16), r"image is float32 \[16\]; it must be floating-point"),
        (torch.zeros(1, 2, 8, 16, dtype=torch.uint8), "image is uint8 .*; it must be floating-point"),
        (torch.zeros(1, 2, 0, 0), r"image is empty: float32 \[1, 2, 0, 0\]"),
    ],
)
def test_an_image_of_another_form_is_refused(image: Tensor, message: str):
    with pytest.raises(UserError, match=message):
        Noise(spec=SKETCH).sample(image)


def test_a_layout_and_an_image_must_be_of_one_size():
    both = Noise(spec=replace(SPEC, image_channels=2))
    assert both.sample(Condition(random_layout(8, 16), torch.zeros(1, 2, 8, 16))).shape == (1, 3, 8, 16)
    for image in (torch.zeros(1, 2, 8, 8), torch.zeros(2, 2, 8, 16)):
        with pytest.raises(UserError, match=r"but the layout is uint8 \[1, 8, 16\]; sizes must agree"):
            both.sample(Condition(random_layout(8, 16), image))


@pytest.mark.parametrize("seed", [-1, 1 << 63, 1 << 64])
def test_a_seed_out_of_range_is_refused(seed: int):
    with pytest.raises(UserError, match=rf"seed {seed}: must be an integer of 0 or more, below 2\^63"):
        Noise(spec=FREE).sample(seed=seed)


def test_the_largest_seed_paints():
    assert not torch.equal(Noise(spec=FREE).sample(seed=(1 << 63) - 1), Noise(spec=FREE).sample())


def test_what_is_no_condition_and_no_seed_at_all_is_refused():
    """As in production, where annotations are not checked."""
    sample, network = inspect.unwrap(Generator.sample), Noise(spec=FREE)
    for condition in (np.zeros((8, 16)), "layout.png", [[0, 1]]):
        with pytest.raises(UserError, match=f"condition is a {type(condition).__name__}; pass a photogram.Layout"):
            sample(network, condition)  # type: ignore[arg-type]
    for seed in (0.5, "1", None):
        with pytest.raises(UserError, match=f"seed {seed!r}: must be an integer"):
            sample(network, seed=seed)  # type: ignore[arg-type]
    assert sample(network, seed=np.int64(3)).shape == (1, 3, 8, 16)  # type: ignore[arg-type]


def test_equal_seeds_paint_equally_and_others_otherwise():
    network = Noise(spec=FREE)
    state = torch.get_rng_state()
    first = network.sample(seed=5)
    assert torch.equal(first, network.sample(seed=5)) and not torch.equal(first, network.sample(seed=6))
    assert torch.equal(network.sample(), network.sample(seed=0))
    assert torch.equal(torch.get_rng_state(), state)  # the seed is the painting's own
    assert first.shape == (1, 3, 8, 16)


def test_an_image_is_grown_by_its_border_and_cropped_back():
    network, image = Noise(spec=SKETCH), torch.rand(1, 2, 7, 13) * 2 - 1
    assert network.sample(image).shape == (1, 3, 7, 13)
    assert network.painted is not None and network.painted.image is not None
    seen = network.painted.image
    assert seen.shape == (1, 2, 8, 16) and torch.equal(seen[..., :7, :13], image)
    assert torch.equal(seen[..., 7, :13], image[..., 6, :])
    assert torch.equal(seen[..., :7, 13:], image[..., 12:].expand(-1, -1, -1, 3))


def test_options_reach_the_painter_and_those_of_another_are_refused():
    network = Noise(spec=FREE)
    brighter = network.sample(options=Noise.Options(light=0.2)) - network.sample()
    assert torch.allclose(brighter, torch.full_like(brighter, 0.2), atol=1e-6)
    with pytest.raises(UserError, match="Noise takes Options, not NoOptions"):
        network.sample(options=NoOptions())
    with pytest.raises(UserError, match="CascadedRefinementNetwork takes Choice, not Options"):
        cascade().sample(random_layout(16, 24), options=Noise.Options())


def test_photographs_are_clamped_and_without_gradients():
    photo = Noise(spec=FREE, gain=5.0).sample()
    assert photo.min() == -1 and photo.max() == 1 and not photo.requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_it_paints_in_evaluation_mode_and_goes_back_to_what_it_was(training: bool):
    network = Noise(spec=FREE).train(training)
    network.sample()
    assert network.modes == [False] and network.training is training

    def broken(*_: object) -> Tensor:
        raise RuntimeError("out of paint")

    network.paint = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of paint"):
        network.sample()
    assert network.training is training
