"""The official networks of pix2pixHD: what their files hold, equal paintings, parts that fit, and clear refusals."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_pix2pixhd import OfficialDiscriminator, OfficialEncoder, OfficialGenerator, edges, planes, scene
from official_translators import Values, dropped, loud, named, official, picture, put, resnet, saved, unet
from torch import Tensor, nn

from photogram.cli import main
from photogram.data.known_classes import cityscapes_35
from photogram.errors import UserError
from photogram.interop.pix2pixhd import Imported, import_pix2pixhd, read_discriminator
from photogram.interop.pix2pixhd_forms import DiscriminatorForm, EncoderForm, GeneratorForm, find
from photogram.interop.torch_checkpoint import open_checkpoint
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Condition, Layout, SceneClass, write_classes
from photogram.styled import StyleOptions

FORMS = ("zip", "legacy")
HEIGHT, WIDTH = 32, 64


def layout(classes: int = 35) -> Layout:
    labels, objects = scene(HEIGHT, WIDTH, classes)
    return Layout(torch.from_numpy(labels).to(torch.uint8)[None], torch.from_numpy(objects).to(torch.int32)[None])


def regions_of(labels: np.ndarray, objects: np.ndarray) -> list[tuple[int, int]]:
    """Class and number of each region, in our order."""
    return sorted(set(zip(labels.ravel().tolist(), objects.ravel().tolist(), strict=True)))


def loaded(made: Imported) -> CoarseToFineGenerator:
    return CoarseToFineGenerator.from_pretrained(made.out)


def generator(inputs: int = 36, enhancers: int = 0, **more: Any) -> nn.Module:
    return loud(OfficialGenerator(inputs, enhancers, **more))


def encoder(**more: Any) -> nn.Module:
    return loud(OfficialEncoder(**more))


# --- equal paintings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enhancers", (0, 1, 2))
@pytest.mark.parametrize("inputs", (3, 35, 36, 39))
def test_a_generator_paints_as_the_official_one(tmp_path, inputs, enhancers):
    """Check 10.12. Every second one as a module of another, with old statistics, in the old form."""
    odd = bool((inputs + enhancers) % 2)
    network = generator(inputs, enhancers, legacy=odd)
    path = saved(network, tmp_path / "latest_net_G.pth", FORMS[odd], module=odd)
    made = import_pix2pixhd(path, out=tmp_path / "out", quiet=True)
    assert made.found.form == GeneratorForm(inputs, 3, 4, 2, 2, enhancers, 1 if enhancers else 0)
    assert made.found.stripped == odd
    norms = sum(isinstance(m, nn.InstanceNorm2d) for m in network.modules())
    assert made.found.passed_over == (3 * norms if odd else 0)
    ours = loaded(made)
    assert ours.boundary == ("objects" if inputs in (36, 39) else "none")
    assert ours.style_channels == (3 if inputs == 39 else 0) and ours.encodes != (inputs == 39)
    labels, objects = scene(HEIGHT, WIDTH, 35)
    if inputs == 3:
        shown = picture(3, HEIGHT, WIDTH)
        found = ours.sample(shown)
    else:
        assert ours.spec.classes == cityscapes_35()
        shown = planes(labels, 35)
        if inputs > 35:
            shown = torch.cat([shown, edges(objects)], 1)
        if inputs == 39:
            known = regions_of(labels, objects)
            styles = torch.rand(len(known), 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
            features = torch.zeros(1, 3, HEIGHT, WIDTH)
            for y, x in np.ndindex(HEIGHT, WIDTH):
                features[0, :, y, x] = styles[known.index((int(labels[y, x]), int(objects[y, x])))]
            shown = torch.cat([shown, features], 1)
            found = ours.sample_styles(layout(), styles)
        else:
            found = ours.sample(layout())
    wanted = official(network, shown)
    assert wanted.std() > 0.1, "there is something to see"
    assert (found - wanted).abs().max() < 1e-5
    if inputs in (36, 39):  # the edge between two objects of one class is seen
        shown[:, 35, 8:24, 19:21] = 0
        assert (official(network, shown) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("shape", "form"),
    (
        ({"down": 4, "blocks": 1}, (36, 3, 4, 4, 1, 0, 0)),
        ({"down": 1, "blocks": 3, "enhancers": 1, "local_blocks": 3}, (36, 3, 4, 1, 3, 1, 3)),
        ({"width": 8, "outputs": 1, "enhancers": 2, "local_blocks": 2}, (36, 1, 8, 2, 2, 2, 2)),
    ),
)
def test_sizes_are_inferred(tmp_path, shape, form):
    network = generator(**shape)
    made = import_pix2pixhd(saved(network, tmp_path / "m.pth"), out=tmp_path / "out", quiet=True)
    assert made.found.form == GeneratorForm(*form)
    labels, objects = scene(HEIGHT, WIDTH, 35)
    wanted = official(network, torch.cat([planes(labels, 35), edges(objects)], 1))
    assert (loaded(made).sample(layout()) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("odd", (False, True))
def test_styles_are_encoded_as_the_official_encoder_does(tmp_path, odd):
    """Check 10.12: its 20 tensors; then the mean of each object, pixel by pixel."""
    e = encoder(legacy=odd)
    g = saved(generator(39, enhancers=1), tmp_path / "latest_net_G.pth", FORMS[odd])
    path = saved(e, tmp_path / "latest_net_E.pth", FORMS[odd], module=odd)
    made = import_pix2pixhd(g, out=tmp_path / "out", encoder=path, quiet=True)
    ours = loaded(made)
    assert ours.encodes and ours.encoder_width == 2
    photo = picture(3, HEIGHT, WIDTH)
    features = official(e, photo)[0]
    labels, objects = scene(HEIGHT, WIDTH, 35)
    assert features.std() > 0.1
    wanted = []
    for one, number in regions_of(labels, objects):
        where = torch.from_numpy((labels == one) & (objects == number))
        wanted.append(features[:, where].mean(1))
    found = ours.styles_in(photo, layout())
    assert (found - torch.stack(wanted)).abs().max() < 1e-5
    assert torch.allclose(
        ours.sample_styles(layout(), found), ours.sample_styles(layout(), torch.stack(wanted)), atol=1e-4
    )


def test_precomputed_features_were_computed_at_the_size_of_the_coarse_generator(tmp_path):
    """Specification 4.7: the first stage's encoder at half the size, each number repeated."""
    e = encoder()
    made = import_pix2pixhd(
        saved(generator(39, 1), tmp_path / "g.pth"),
        out=tmp_path / "out",
        encoder=saved(e, tmp_path / "e.pth"),
        options=option_file(tmp_path / "opt.txt", LOCAL | FEATURES | {"load_features": True}),
        quiet=True,
    )
    ours = loaded(made)
    assert ours.encoder_shrink == 2 and any("computed at 1/2 of the size" in words for words in made.assumed)
    small = picture(3, HEIGHT // 2, WIDTH // 2)
    flat = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    read = torch.nn.functional.interpolate(flat, scale_factor=0.5, mode="bilinear", antialias=True)
    features = official(e, read).repeat_interleave(2, 2).repeat_interleave(2, 3)[0]
    found = ours.styles_in(flat, layout())
    labels, objects = scene(HEIGHT, WIDTH, 35)
    for (one, number), style in zip(regions_of(labels, objects), found, strict=True):
        where = torch.from_numpy((labels == one) & (objects == number))
        assert (features[:, where].mean(1) - style).abs().max() < 1e-5


def test_styles_are_drawn_from_the_official_clusters(tmp_path):
    random = np.random.default_rng(2)
    clusters = {one: random.uniform(-1, 1, (1, 3)).astype(np.float32) for one in range(35) if one != 4}
    clusters[26] = random.uniform(-1, 1, (12, 3)).astype(np.float32)
    np.save(tmp_path / "features_clustered_010.npy", np.array(clusters, dtype=object))
    network = generator(39)
    saved(network, tmp_path / "latest_net_G.pth")
    made = import_pix2pixhd(tmp_path, out=tmp_path / "out", quiet=True)
    ours = loaded(made)
    assert ours.clusters == 12 and ours.style_counts.sum().item() == 33 + 12
    assert torch.equal(ours.style_centres[26], torch.from_numpy(clusters[26]))
    assert not ours.style_counts[4].any() and not ours.style_centres[4].any()
    labels, objects = scene(HEIGHT, WIDTH, 35)
    features = torch.zeros(1, 3, HEIGHT, WIDTH)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        one = int(labels[y, x])
        features[0, :, y, x] = torch.from_numpy(clusters[one][0]) if one in clusters else 0
    wanted = official(network, torch.cat([planes(labels, 35), edges(objects), features], 1))
    found = ours.sample(layout(), options=StyleOptions(style="common"))  # the first where counts are unknown
    assert (found - wanted).abs().max() < 1e-5
    assert (ours.sample(layout(), 1) - ours.sample(layout(), 2)).abs().max() > 1e-3, "the two cars' styles are drawn"


def test_other_classes_are_taken(tmp_path):
    """Named by a classes.json, or numbered by the option file; with edges or without."""
    classes = tuple(SceneClass(f"class {n}", (9 * n, 0, 0)) for n in range(6))
    write_classes(classes, tmp_path / "classes.json")
    for number, (inputs, opened) in enumerate(((6, "none"), (7, "objects"))):
        network = generator(inputs)
        path = saved(network, tmp_path / "m.pth")
        made = import_pix2pixhd(path, out=tmp_path / str(number), classes=tmp_path / "classes.json", quiet=True)
        ours = loaded(made)
        assert ours.spec.classes == classes and ours.boundary == opened and ours.spec.instances == (opened != "none")
        labels, objects = scene(HEIGHT, WIDTH, 6)
        shown = torch.cat([planes(labels, 6), edges(objects)], 1)[:, :inputs]
        assert (ours.sample(layout(6)) - official(network, shown)).abs().max() < 1e-5
    made = import_pix2pixhd(
        saved(generator(7), tmp_path / "m.pth"),
        out=tmp_path / "numbered",
        options=option_file(tmp_path / "opt.txt", GLOBAL | {"label_nc": 7, "no_instance": True}),
        quiet=True,
    )
    assert [c.name for c in made.network.spec.classes] == [f"class {n}" for n in range(7)]
    assert "numbered, since no --classes were given" in made.assumed[0]


# --- names and counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "form", "tensors", "parameters"),
    (
        (lambda: OfficialGenerator(36, 0, 64, 4, 9), GeneratorForm(36, 3, 64, 4, 9, 0, 0), 56, 182_546_755),
        (lambda: OfficialGenerator(39, 0, 64, 4, 9), GeneratorForm(39, 3, 64, 4, 9, 0, 0), 56, 182_556_163),
        (lambda: OfficialGenerator(3, 0, 64, 4, 9), GeneratorForm(3, 3, 64, 4, 9, 0, 0), 56, 182_443_267),
        (lambda: OfficialGenerator(36, 1, 64, 4, 9, 3), GeneratorForm(36, 3, 64, 4, 9, 1, 3), 74, 182_857_059),
        (lambda: OfficialGenerator(39, 1, 64, 4, 9, 3), GeneratorForm(39, 3, 64, 4, 9, 1, 3), 74, 182_871_171),
        (lambda: OfficialGenerator(36, 2, 64, 4, 9, 3), GeneratorForm(36, 3, 64, 4, 9, 2, 3), 92, 182_947_699),
        (lambda: OfficialEncoder(16, 4), EncoderForm(3, 3, 16, 4), 20, 788_803),
        (lambda: OfficialDiscriminator(39, 2, 64), DiscriminatorForm(39, 64, 3, 2, True), 20, 5_603_202),
        (lambda: OfficialDiscriminator(39, 3, 64), DiscriminatorForm(39, 64, 3, 3, True), 30, 8_404_803),
        (lambda: OfficialDiscriminator(39, 3, 64, 3, False), DiscriminatorForm(39, 64, 3, 3, False), 30, 8_404_803),
        (lambda: OfficialDiscriminator(6, 1, 8, 4), DiscriminatorForm(6, 8, 4, 1, True), 12, None),
    ),
)
def test_our_table_has_all_official_names_and_counts(network, form, tensors, parameters):
    """Of the full sizes, on the meta device: the specification's counts and the modules' own names."""
    with torch.device("meta"):
        made = network()
    wanted = {name: tuple(t.shape) for name, t in made.state_dict().items()}
    assert len(wanted) == tensors
    assert parameters in (None, sum(p.numel() for p in made.parameters()))
    table = form.variables()
    assert wanted == {name: variable.shape for name, variable in table.items() if variable.ours}
    with torch.device("meta"):
        legacy = type(made)(**arguments_of(made), legacy=True)
    assert {name: tuple(t.shape) for name, t in legacy.state_dict().items()} == {n: v.shape for n, v in table.items()}


def arguments_of(made: nn.Module) -> dict[str, Any]:
    """What an official network was made of, by its own parts."""
    convs = [m for m in made.modules() if isinstance(m, nn.Conv2d)]
    first = {"inputs": convs[0].in_channels, "width": convs[0].out_channels}
    if isinstance(made, OfficialDiscriminator):
        return first | {"scales": made.scales, "layers": made.layers, "matched": made.matched}
    if isinstance(made, OfficialEncoder):
        return {"width": first["width"], "down": 4}
    assert isinstance(made, OfficialGenerator)
    return first | {"enhancers": made.enhancers, "down": 4, "blocks": 9, "local_blocks": 3}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("matched", (False, True))
def test_discriminators_are_known_with_and_without_feature_matching(tmp_path, form, matched):
    network = loud(OfficialDiscriminator(39, 2, matched=matched, legacy=True))
    path = saved(network, tmp_path / "latest_net_D.pth", form, module=True)
    found = find(open_checkpoint(path))
    assert found.form == DiscriminatorForm(39, 4, 3, 2, matched) and found.passed_over == 2 * 3 * 3
    weights = dict(found.read())
    assert len(weights) == 20
    finest = "scale1_layer0.0.weight" if matched else "layer1.0.weight"
    assert torch.equal(weights["scales.0.convs.0.weight"], network.state_dict()[finest]), "the last is the finest"


@pytest.mark.parametrize("matched", (False, True))
@pytest.mark.parametrize(("scales", "layers"), ((1, 3), (2, 3), (3, 2)))
def test_discriminators_judge_as_the_official_ones(tmp_path, scales, layers, matched):
    """Logits of each scale, the finest first, of sides that no stride divides."""
    network = loud(OfficialDiscriminator(6, scales, layers=layers, matched=matched))
    path = saved(network, tmp_path / "latest_net_D.pth", module=matched)
    options = {"num_D": scales, "n_layers_D": layers, "no_ganFeat_loss": not matched}
    ours = read_discriminator(path, option_file(tmp_path / "opt.txt", GLOBAL | options))
    assert not ours.training
    x = picture(6, 70, 93)
    with torch.no_grad():
        found, wanted = ours(x), network(x)
    assert len(found) == len(wanted) == scales
    for features, logits in zip(found, wanted, strict=True):
        assert len(features) == layers + 2 and logits.std() > 0.01
        assert (features[-1] - logits).abs().max() < 1e-5
    with pytest.raises(UserError, match="ndf is '64', but the checkpoint holds 4"):
        read_discriminator(path, option_file(tmp_path / "opt.txt", GLOBAL | options | {"ndf": 64}))


# --- a training's folder ---------------------------------------------------------------------------------------------

GLOBAL = {"model": "pix2pixHD", "netG": "global", "ngf": 4, "n_downsample_global": 2, "n_blocks_global": 2}
GLOBAL |= {"n_local_enhancers": 1, "n_blocks_local": 3, "label_nc": 35, "input_nc": 3, "output_nc": 3}
GLOBAL |= {"no_instance": False, "instance_feat": False, "label_feat": False, "load_features": False, "feat_num": 3}
GLOBAL |= {"norm": "instance", "loadSize": 1024, "fineSize": 512, "resize_or_crop": "scale_width", "num_D": 2}
GLOBAL |= {"ndf": 4, "n_layers_D": 3, "nef": 2, "no_ganFeat_loss": False, "name": "label2city"}
LOCAL = GLOBAL | {"netG": "local", "ngf": 2, "n_blocks_local": 1, "resize_or_crop": "none"}
FEATURES = {"instance_feat": True}


def option_file(path: Path, values: dict[str, Any]) -> Path:
    lines = ["------------ Options -------------", *(f"{key}: {value}" for key, value in sorted(values.items()))]
    path.write_text("\n".join([*lines, "-------------- End ----------------", ""]))
    return path


def training(folder: Path, options: dict[str, Any] | None = None, inputs: int = 39, enhancers: int = 0) -> Path:
    """A whole training's folder."""
    folder.mkdir()
    saved(generator(inputs, enhancers), folder / "latest_net_G.pth")
    saved(loud(OfficialDiscriminator(39, 2)), folder / "latest_net_D.pth")
    saved(encoder(), folder / "latest_net_E.pth")
    np.save(folder / "features_clustered_010.npy", np.array({7: np.ones((2, 3), "f4")}, dtype=object))
    np.savetxt(folder / "iter.txt", (57, 1200), delimiter=",", fmt="%d")
    option_file(folder / "opt.txt", GLOBAL | FEATURES if options is None else options)
    return folder


def test_a_folder_is_imported_with_all_that_is_in_it(tmp_path):
    folder = training(tmp_path / "label2city")
    made = import_pix2pixhd(folder, out=tmp_path / "out", quiet=True)
    ours = loaded(made)
    assert ours.encodes and ours.has_styles and ours.style_by == "objects" and ours.spec.size == (512, 1024)
    assert made.lacking == ()
    assert made.assumed == ("its 35 classes, those of Cityscapes", "its height, 512, half of its width")
    card = (made.out / "README.md").read_text(encoding="utf-8")
    for name in ("latest_net_G.pth", "latest_net_E.pth", "features_clustered_010.npy"):
        assert f"{name}, SHA-256 {hashlib.sha256((folder / name).read_bytes()).hexdigest()}" in card
    for words in (
        "trained up to epoch 57, iteration 1200",
        "latest_net_D.pth: a discriminator of 2 scales that sees 39 channels, in discriminator.safetensors",
        "netG global, ngf 4",
        "- residual blocks: 2",
        "Semantic Manipulation",
        "shown 35 classes, the edges of objects, 3 numbers of a style of each object",
        "not photogram's",
    ):
        assert words in card, words
    assert str(tmp_path) not in card
    assert sorted(p.name for p in made.out.iterdir()) == [
        "README.md",
        "config.json",
        "discriminator.safetensors",
        "model.safetensors",
    ]


def test_without_its_encoder_styles_are_drawn_but_not_taken(tmp_path):
    """Specification 8.2, 4.7: what cannot be done is said at once, and when it is tried."""
    folder = training(tmp_path / "run")
    (folder / "latest_net_E.pth").unlink()
    made = import_pix2pixhd(folder, out=tmp_path / "out", quiet=True)
    assert len(made.lacking) == 1 and "styles cannot be taken from photographs: there is no encoder" in made.lacking[0]
    assert made.lacking[0] in (made.out / "README.md").read_text(encoding="utf-8")
    ours = loaded(made)
    assert ours.sample(layout(), 1).shape == (1, 3, HEIGHT, WIDTH)
    with pytest.raises(UserError, match="this network has no encoder, so it cannot take styles from photographs"):
        ours.styles_in(picture(3, HEIGHT, WIDTH), layout())
    (folder / "features_clustered_010.npy").unlink()
    made = import_pix2pixhd(folder, out=tmp_path / "two", quiet=True)
    assert len(made.lacking) == 2 and "styles cannot be drawn: there are no clusters" in made.lacking[1]


def test_what_lies_beside_a_generator_without_styles_is_passed_over(tmp_path):
    """As clusters lie beside the published generator of Cityscapes, which has no features; asked for, they are not."""
    folder = training(tmp_path / "run", GLOBAL, inputs=36)
    for compared in (True, False):
        if not compared:
            (folder / "opt.txt").unlink()
        made = import_pix2pixhd(folder, out=tmp_path / str(compared), quiet=True)
        assert not made.network.style_channels and made.network.encoder is None
        assert [words.split()[0] for words in made.lacking] == ["latest_net_E.pth", "features_clustered_010.npy"]
        assert all("is passed over: the generator was trained without styles" in words for words in made.lacking)
    g = folder / "latest_net_G.pth"
    for more, message in (
        ({"clusters": folder / "features_clustered_010.npy"}, "--clusters .*: .* was trained without styles"),
        ({"encoder": folder / "latest_net_E.pth"}, "takes 36 channels, of which the file does not say"),
    ):
        with pytest.raises(UserError, match=message):
            import_pix2pixhd(g, out=tmp_path / "no", quiet=True, **more)
    with pytest.raises(UserError, match="was trained without styles, but the encoder gives 3"):
        import_pix2pixhd(
            g,
            out=tmp_path / "no",
            encoder=folder / "latest_net_E.pth",
            options=option_file(tmp_path / "o.txt", GLOBAL),
            quiet=True,
        )


def test_a_folder_needs_a_generator_and_one_file_of_clusters(tmp_path):
    folder = training(tmp_path / "run")
    np.save(folder / "features_clustered_020.npy", np.array({7: np.zeros((1, 3), "f4")}, dtype=object))
    with pytest.raises(UserError, match=r"has 2 files of clusters; choose with --clusters .*010.npy"):
        import_pix2pixhd(folder, out=tmp_path / "out", quiet=True)
    made = import_pix2pixhd(folder, out=tmp_path / "out", clusters=folder / "features_clustered_020.npy", quiet=True)
    assert made.network.style_counts.sum() == 1
    (folder / "latest_net_G.pth").rename(folder / "60_net_G.pth")
    with pytest.raises(UserError, match=r"has no latest_net_G.pth; give a file, such as .*60_net_G.pth"):
        import_pix2pixhd(folder, out=tmp_path / "two", quiet=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no latest_net_G.pth; give the folder of a training, or a .pth file"):
        import_pix2pixhd(tmp_path / "empty", out=tmp_path / "two", quiet=True)


@pytest.mark.parametrize("text", ("", "57", "57 1200 3", "fifty\n1", "-1\n2", "1e3\n2", "9" * 300, "\x1b[31m"))
def test_other_files_are_no_iter_txt(tmp_path, text):
    folder = training(tmp_path / "run")
    (folder / "iter.txt").write_text(text)
    refused(folder, f"{folder / 'iter.txt'}: is ", GLOBAL | FEATURES)


def test_label_features_are_by_class(tmp_path):
    options = option_file(tmp_path / "opt.txt", GLOBAL | {"label_feat": True, "no_instance": True})
    path = saved(generator(38), tmp_path / "m.pth")
    made = import_pix2pixhd(path, out=tmp_path / "out", options=options, quiet=True)
    assert made.network.style_by == "classes" and made.network.boundary == "none" and not made.network.spec.instances
    made = import_pix2pixhd(path, out=tmp_path / "two", quiet=True)
    assert made.network.style_by == "classes" and "its styles, of each class" in made.assumed
    assert "shown 35 classes, 3 numbers of a style of each class." in (made.out / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "size"),
    (
        ({}, (512, 1024)),
        ({"loadSize": 512}, (256, 512)),
        ({"resize_or_crop": "crop"}, (512, 512)),
        ({"resize_or_crop": "resize_and_crop"}, (512, 512)),
        ({"resize_or_crop": "none"}, (512, 1024)),
    ),
)
def test_the_size_is_the_options(tmp_path, changes, size):
    options = option_file(tmp_path / "opt.txt", GLOBAL | changes)
    path = saved(generator(36), tmp_path / "m.pth")
    made = import_pix2pixhd(path, out=tmp_path / "out", options=options, quiet=True)
    assert made.network.spec.size == size
    assert any("its size" in words or "its height" in words for words in made.assumed) == (size != (512, 512))
    unsaid = {key: value for key, value in (GLOBAL | changes).items() if key not in ("loadSize", "fineSize")}
    made = import_pix2pixhd(path, out=tmp_path / "one", options=option_file(options, unsaid), quiet=True)
    assert made.network.spec.size == (512, 1024) and "its size, 512 x 1024" in made.assumed
    enhanced = saved(generator(36, 1), tmp_path / "n.pth")
    assert import_pix2pixhd(enhanced, out=tmp_path / "two", quiet=True).network.spec.size == (1024, 2048)


# --- options that disagree -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    (
        ({"netG": "local"}, "netG is 'local', but the checkpoint holds global"),
        ({"ngf": 64}, "ngf is '64', but the checkpoint holds 4"),
        ({"n_downsample_global": 4}, "n_downsample_global is '4', but the checkpoint holds 2"),
        ({"n_blocks_global": 9}, "n_blocks_global is '9', but the checkpoint holds 2"),
        ({"norm": "batch"}, "norm is 'batch', but the checkpoint holds instance"),
        ({"output_nc": 1}, "output_nc is '1', but the checkpoint holds 3"),
        ({"model": "pix2pix"}, "model is 'pix2pix', not pix2pixHD"),
        ({"nef": 16}, "nef is '16', but the checkpoint holds 2"),
        ({"n_downsample_E": 4}, "n_downsample_E is '4', but the checkpoint holds 2"),
        ({"feat_num": 4}, "feat_num is '4', but the checkpoint holds 3"),
        ({"ndf": 64}, "ndf is '64', but the checkpoint holds 4"),
        ({"num_D": 3}, "num_D is '3', but the checkpoint holds 2"),
        ({"n_layers_D": 4}, "n_layers_D is '4', but the checkpoint holds 3"),
        ({"no_ganFeat_loss": True}, "no_ganFeat_loss is 'True', but the checkpoint holds False"),
        ({"label_nc": 20}, "label_nc 20, no_instance False and 3 features make 24 channels, but"),
        ({"label_nc": 0}, "label_nc 0, input_nc 3, no_instance False and 3 features make 7 channels, but"),
        ({"no_instance": True}, "no_instance True and 3 features make 38 channels"),
        ({"instance_feat": False}, "no_instance False and 0 features make 36 channels, but"),
        ({"label_nc": "many"}, "label_nc is 'many'; it must be 0 to 65535"),
        ({"label_nc": "9" * 5000}, "it must be 0 to 65535"),
        ({"label_nc": "0" * 9 + "9" * 5000}, "it must be 0 to 65535"),
        ({"label_nc": "0000000009999999"}, "it must be 0 to 65535"),
        ({"label_nc": "٣"}, "it must be 0 to 65535"),
        ({"no_instance": "perhaps"}, "no_instance is 'perhaps'; it is True or False"),
        ({"loadSize": 0}, "loadSize is 0; it must be 32 to 8192"),
        ({"resize_or_crop": "crop", "fineSize": 9999}, "fineSize is 9999; it must be 32 to 8192"),
        ({"resize_or_crop": "crop", "fineSize": "wide"}, "fineSize is 'wide'; it must be 0 to 65535"),
    ),
)
def test_options_that_disagree_are_refused(tmp_path, changes, message):
    folder = training(tmp_path / "run", GLOBAL | FEATURES | changes)
    refused(folder, message, GLOBAL | FEATURES | changes)


def refused(folder: Path, message: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError) as raised:
        import_pix2pixhd(folder, out=folder / "out", quiet=True)
    said = str(raised.value)
    assert message in said, said
    assert "\n" not in said and said.isprintable() and not (folder / "out").exists()
    assert said.startswith(f"{folder}{os.sep}"), options


def test_options_of_a_local_generator_are_compared(tmp_path):
    path = saved(generator(36, 1), tmp_path / "m.pth")
    good = option_file(tmp_path / "opt.txt", LOCAL)
    made = import_pix2pixhd(path, out=tmp_path / "out", options=good, quiet=True)
    assert made.network.spec.size == (1024, 2048)
    for changes, message in (
        ({"ngf": 4}, "ngf is '4', but the checkpoint holds 2"),
        ({"n_local_enhancers": 2}, "n_local_enhancers is '2', but the checkpoint holds 1"),
        ({"n_blocks_local": 3}, "n_blocks_local is '3', but the checkpoint holds 1"),
    ):
        with pytest.raises(UserError, match=message):
            import_pix2pixhd(
                path, out=tmp_path / "no", options=option_file(tmp_path / "o.txt", LOCAL | changes), quiet=True
            )


def test_an_option_file_of_another_program_is_refused(tmp_path):
    path = saved(generator(36), tmp_path / "m.pth")
    values = {key: value for key, value in GLOBAL.items() if key != "label_nc"}
    with pytest.raises(UserError, match="has no label_nc; it is no option file of pix2pixHD"):
        import_pix2pixhd(path, out=tmp_path / "no", options=option_file(tmp_path / "o.txt", values), quiet=True)
    (tmp_path / "o.txt").write_text("{}")
    with pytest.raises(UserError, match=r"line 1 is '\{\}', not `key: value`; give opt.txt"):
        import_pix2pixhd(path, out=tmp_path / "no", options=tmp_path / "o.txt", quiet=True)


def test_parts_of_other_trainings_are_refused(tmp_path):
    g = saved(generator(39), tmp_path / "latest_net_G.pth")
    e = saved(encoder(), tmp_path / "e.pth")
    for more, message in (
        ({"encoder": saved(encoder(outputs=5), tmp_path / "five.pth")}, "takes 39 channels, of which"),
        ({"encoder": saved(encoder(down=3), tmp_path / "three.pth")}, "halves 3 times, but .* 2; only"),
        ({"encoder": g}, "is a generator of 2 halvings and 2 residual blocks, not an encoder; give latest_net_E.pth"),
        ({"discriminator": e}, "is an encoder of 3 features, not a discriminator; give latest_net_D.pth"),
        (
            {"discriminator": saved(OfficialDiscriminator(42, 2), tmp_path / "d.pth")},
            r"sees 42 channels, but what .* is shown and paints has 39, without styles",
        ),
    ):
        with pytest.raises(UserError, match=message):
            import_pix2pixhd(g, out=tmp_path / "no", quiet=True, **more)
    with pytest.raises(UserError, match=r"is an encoder of 3 features, not a generator; give latest_net_G.pth"):
        import_pix2pixhd(e, out=tmp_path / "no", quiet=True)
    grey = saved(generator(39, outputs=1), tmp_path / "grey.pth")
    with pytest.raises(UserError, match=r"reads 3 channels, but .* paints 1"):
        import_pix2pixhd(grey, out=tmp_path / "no", encoder=e, quiet=True)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("inputs", "classes", "message"),
    (
        (20, 0, "takes 20 channels, of which the file does not say how many are classes; give --options opt.txt or"),
        (20, 18, "has 18 classes, but .* takes 20 channels; besides the classes there can be 1 for edges, and 3 for"),
        (20, 21, "has 21 classes, but .* takes 20"),
    ),
)
def test_what_cannot_be_known_is_asked_for(tmp_path, inputs, classes, message):
    path, named = saved(generator(inputs), tmp_path / "m.pth"), None
    if classes:
        named = tmp_path / "classes.json"
        write_classes(tuple(SceneClass(f"class {n}", (n, 0, 0)) for n in range(classes)), named)
    with pytest.raises(UserError, match=message):
        import_pix2pixhd(path, out=tmp_path / "no", classes=named, quiet=True)


def test_images_with_edges_are_refused(tmp_path):
    options = option_file(tmp_path / "o.txt", GLOBAL | {"label_nc": 0})
    path = saved(generator(4), tmp_path / "m.pth")
    with pytest.raises(UserError, match="takes images with the edges of objects beside them, which is not supported"):
        import_pix2pixhd(path, out=tmp_path / "no", options=options, quiet=True)
    options = option_file(tmp_path / "o.txt", GLOBAL | {"label_nc": 0, "input_nc": 4, "no_instance": True})
    made = import_pix2pixhd(path, out=tmp_path / "out", options=options, quiet=True)
    image = picture(4, HEIGHT, WIDTH)
    assert made.network.sample(Condition(image=image)).shape == (1, 3, HEIGHT, WIDTH)


# --- what is refused -------------------------------------------------------------------------------------------------


def local() -> nn.Module:
    return generator(36, 2)


@pytest.mark.parametrize(
    ("network", "change", "message"),
    (
        (generator, dropped("model.19.bias"), "'model.19.bias' is missing (1 such)"),
        (generator, dropped("model.4.bias"), "'model.4.bias' is missing (1 such); a generator of 2 halvings and 2"),
        (generator, dropped("model.19."), "'model.19.weight' is missing"),
        (generator, put("model.30.weight", 2), "'model.30.weight' is unknown (1 such)"),
        (generator, put("model.1.weight", 4, 36, 5, 5), "is [4, 36, 5, 5], but the other tensors ask for"),
        (generator, put("model.1.weight", 0, 36, 7, 7), "is [0, 36, 7, 7]; it must be 4 dimensions, 1 or more each"),
        (generator, put("model.1.bias", 4, kind=torch.int64), "is of int64; it must be float32"),
        (generator, lambda v: v["model.4.weight"].fill_(torch.nan), "coarse.down.0.weight (our name) holds values"),
        (generator, lambda v: v.update({"module.model.1.bias": v["model.1.bias"]}), "with and without 'module.'"),
        (generator, lambda v: v.update(epoch=3), "'epoch' is a int, not a tensor"),
        (generator, lambda v: v.clear(), "holds nothing"),
        (generator, put("model.2.weight", 4), "was trained with batch norm (--norm batch); only instance norm"),
        (local, put("model1_1.2.weight", 2), "was trained with batch norm"),
        (local, dropped("model2_2.5."), "'model2_2.5.weight' is missing"),
        (local, dropped("model2_"), "'model1_2.5.weight' is missing"),
        (local, dropped("model1_1."), "'model1_1.1.weight' is missing (4 such)"),
        (local, dropped("model1_2.0."), "'model2_2.4.weight' is missing"),
        (local, dropped("model.1"), "has no residual block"),
        (local, put("model1_2.5.weight", 2), "'model1_2.5.weight' is unknown"),
        (local, put("model3_1.1.weight", 2), "has 3 enhancers, each of half as many features, but"),
    ),
)  # fmt: skip
def test_other_networks_are_refused_by_name(tmp_path, network, change, message):
    values: Values = network().state_dict()
    change(values)
    refuse_file(saved(values, tmp_path / "m.pth"), message)


def refuse_file(path: Path, message: str) -> None:
    with pytest.raises(UserError) as raised:
        import_pix2pixhd(path, out=path.parent / "out", quiet=True)
    assert message in str(raised.value), str(raised.value)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
    assert not (path.parent / "out").exists()


def older() -> Values:
    """An encoder whose last convolution is one place before: model.28 of the full size, here model.16."""
    values = OfficialEncoder().state_dict()
    return OrderedDict((name.replace("model.17.", "model.16."), t) for name, t in values.items())


@pytest.mark.parametrize(
    ("made", "message"),
    (
        (older, "is an encoder of the older form, whose last convolution is model.16, not model.17"),
        (
            lambda: OrderedDict((n.replace(".29.", ".28."), t) for n, t in OfficialEncoder(2, 4).state_dict().items()),
            "whose last convolution is model.28, not model.29: another network than that of pix2pixHD's present code",
        ),
        (lambda: named("model.1.weight", "model.30.weight"), "its last convolution is model.30; that of"),
        (lambda: OfficialDiscriminator(39, 2), "is a discriminator of 2 scales that sees 39 channels, not a generator"),
        (lambda: nn.Linear(2, 2), "is no network of pix2pixHD"),
        (lambda: named("model.5.conv_block.1.weight"), "its blocks begin at model.5; after 1 to 8 halvings"),
        (lambda: named("model.34.conv_block.1.weight"), "its blocks begin at model.34; after 1 to 8 halvings"),
        (lambda: named("model.16.conv_block.0.weight"), "its blocks pad with zeros"),
        (lambda: named("fc.weight", "head_0.conv_0.weight_orig"), "is a generator of SPADE, which photogram does not"),
        (lambda: named("G_middle_0.norm_0.mlp_shared.0.weight"), "its norms are scaled by the layout at every layer"),
        (lambda: named("discriminator_0.model0.0.weight"), "is a discriminator of SPADE"),
        (lambda: named("fc_mu.weight"), "is an encoder of SPADE"),
        (unet, "is a U-Net of pix2pix; `photogram import pix2pix` reads it"),
        (lambda: named("model.0.weight"), "is a discriminator of pix2pix or CycleGAN, not of pix2pixHD"),
        (lambda: named("features.0.weight"), "is a network that classifies"),
        (lambda: named("conv1.weight"), "is no network of pix2pixHD"),
        (lambda: named("model.conv_block.x"), "has no residual block"),
        (lambda: named("scale0_layer0.0.weight"), "has 1 convolutions, too few for a discriminator"),
        (lambda: named("scale0_layer1.1.weight", "scale0_layer0.0.weight"), "was trained with batch norm"),
        (lambda: named("layer0.3.weight", "layer0.0.weight"), "was trained with batch norm"),
        (lambda: torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(), "is an optimizer's state, not a network"),
    ),
)  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
def test_other_kinds_are_named(tmp_path, made, message, form):
    refuse_file(saved(made(), tmp_path / "m.pth", form), message)


def test_an_older_encoder_is_refused_beside_a_generator(tmp_path):
    g, e = saved(generator(39), tmp_path / "g.pth"), saved(older(), tmp_path / "latest_net_E.pth")
    with pytest.raises(UserError, match=f"{e}: is an encoder of the older form"):
        import_pix2pixhd(g, out=tmp_path / "out", encoder=e, quiet=True)


def test_a_generator_of_cyclegan_has_the_same_form(tmp_path):
    """Two halvings, instance norm, no dropout: the table of 2.3 is that of 4.2."""
    network = resnet("instance", 3)
    made = import_pix2pixhd(saved(network, tmp_path / "m.pth"), out=tmp_path / "out", quiet=True)
    x = picture(3, HEIGHT, WIDTH)
    assert (loaded(made).sample(x) - official(network, x)).abs().max() < 1e-5


def test_a_network_beyond_all_measure_is_refused_before_it_is_read(tmp_path):
    values = OfficialGenerator(36, down=8, blocks=1, width=1).state_dict()
    values["model.1.weight"] = torch.zeros(256, 36, 7, 7)
    refuse_file(saved(values, tmp_path / "m.pth"), "parameters, more than the limit of 1,073,741,824; refused")


@pytest.mark.parametrize("part", ("latest_net_G.pth", "latest_net_E.pth", "latest_net_D.pth"))
def test_a_hostile_file_leaves_nothing(tmp_path, part):
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'trap'}",)

    folder = training(tmp_path / "run")
    for form in FORMS:
        saved(OrderedDict({**generator(39).state_dict(), "x": Hostile()}), folder / part, form)
        refused(folder, "nothing of it was run", {})
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("kind", (torch.float16, torch.bfloat16))
def test_half_precision_is_read_exactly(tmp_path, kind):
    values = OrderedDict((n, t.to(kind)) for n, t in generator().state_dict().items())
    made = import_pix2pixhd(saved(values, tmp_path / "m.pth"), out=tmp_path / "out", quiet=True)
    weights: dict[str, Tensor] = made.network.state_dict()
    assert torch.equal(weights["coarse.first.weight"], values["model.1.weight"].float())
    assert weights["coarse.first.weight"].dtype == torch.float32


def test_a_place_that_holds_anything_is_left_alone(tmp_path):
    path = saved(generator(), tmp_path / "m.pth")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UserError, match=r"is not empty \(mine is there\)"):
        import_pix2pixhd(path, out=tmp_path / "out", quiet=True)


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_imports(tmp_path, capsys):
    folder, out = training(tmp_path / "run"), tmp_path / "out"
    assert main(["import", "pix2pixhd", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "a generator of 2 halvings and 2 residual blocks" in said and "512 x 1024" in said
    assert "assumed, as the checkpoint does not say: its 35 classes, those of Cityscapes" in said
    assert "next: photogram synthesize" in said
    g = str(folder / "latest_net_G.pth")
    assert main(["import", "pix2pixhd", g, "--out", str(tmp_path / "two"), "--clusters",
                 str(folder / "features_clustered_010.npy")]) == 0  # fmt: skip
    assert "styles cannot be taken from photographs: there is no encoder" in capsys.readouterr().out
    assert main(["import", "pix2pixhd", str(folder / "opt.txt"), "--out", str(tmp_path / "three")]) == 1
    error = capsys.readouterr().err
    assert "is no checkpoint of PyTorch" in error and error.count("\n") == 1
    path = saved(generator(36, 1), tmp_path / "local.pth")
    assert main(["import", "pix2pix", str(path), "--out", str(tmp_path / "three")]) == 1
    assert "is pix2pixHD's local enhancer (see `photogram import pix2pixhd`), not" in capsys.readouterr().err
    assert not (tmp_path / "three").exists()
