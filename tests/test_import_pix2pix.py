"""Networks of pytorch-CycleGAN-and-pix2pix: what their files hold, equal paintings, options, and clear refusals."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from official_translators import (
    OfficialPatch,
    OfficialPixel,
    OfficialResNet,
    OfficialUNet,
    Values,
    dropped,
    loud,
    named,
    official,
    picture,
    put,
    resnet,
    saved,
    unet,
)
from torch import Tensor, nn

from photogram.cli import main
from photogram.errors import UserError
from photogram.interop.pix2pix import import_translator, read_discriminator
from photogram.interop.torch_checkpoint import open_checkpoint
from photogram.interop.train_options import read_options
from photogram.interop.translators import PatchForm, ResNetForm, UNetForm, find
from photogram.nn.noise import NoiseOptions
from photogram.nn.patch import PatchDiscriminator
from photogram.nn.resnet import ResNetGenerator
from photogram.recipes import load
from photogram.recipes.pix2pix import UNet
from photogram.scene import Layout, SceneClass, write_classes

QUIET = NoiseOptions(dropout=False)
FORMS = ("zip", "legacy")


# --- equal paintings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ("batch", "instance"))
@pytest.mark.parametrize(
    ("levels", "inputs", "outputs", "module"), ((5, 3, 3, False), (6, 1, 3, True), (5, 4, 1, False))
)
def test_a_unet_paints_as_the_official_one(tmp_path, form, kind, levels, inputs, outputs, module):
    """Check 10.12."""
    network = unet(kind, levels, inputs, outputs)
    path = saved(network, tmp_path / "latest_net_G.pth", form, module)
    made = import_translator(path, system="pix2pix", out=tmp_path / "out", quiet=True)
    assert made.found.form == UNetForm(inputs, outputs, 2, levels, kind)
    assert made.found.stripped == module
    ours = load(tmp_path / "out")
    assert isinstance(ours, UNet) and ours.dropout_at == "torch" and list(ours.drops) == list(range(1, levels - 4))
    x = picture(inputs, 1 << levels, 2 << levels)
    wanted = official(network, x)
    found = ours.sample(x, options=QUIET)
    assert wanted.std() > 0.1, "there is something to see"
    assert (found - wanted).abs().max() < 1e-4
    running = ours.sample(x, options=NoiseOptions(dropout=False, norm_stats="running"))
    assert (running - official(network, x, running=True)).abs().max() < 1e-4
    assert (kind == "instance") == bool((running - found).abs().max() < 1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ("batch", "instance"))
@pytest.mark.parametrize("dropout", (False, True))
@pytest.mark.parametrize(("blocks", "inputs", "outputs", "module"), ((2, 3, 3, False), (9, 1, 3, True)))
def test_a_residual_generator_paints_as_the_official_one(
    tmp_path, form, kind, dropout, blocks, inputs, outputs, module
):
    network = resnet(kind, blocks, dropout, inputs=inputs, outputs=outputs)
    path = saved(network, tmp_path / "latest_net_G_A.pth", form, module)
    made = import_translator(path, system="cyclegan", out=tmp_path / "out", quiet=True)
    assert made.found.form == ResNetForm(inputs, outputs, 4, blocks, kind, dropout)
    ours = load(tmp_path / "out")
    assert isinstance(ours, ResNetGenerator) and ours.dropout is dropout
    x = picture(inputs)
    wanted = official(network, x)
    assert wanted.std() > 0.1
    assert (ours.sample(x, options=QUIET) - wanted).abs().max() < 1e-4
    assert dropout == bool((ours.sample(x, 1) - ours.sample(x, 2)).abs().max() > 1e-3)


@pytest.mark.parametrize("dropout", (False, True))
def test_old_statistics_of_instance_norm_are_passed_over(tmp_path, dropout):
    """Check 10.12. As in the published files of CycleGAN; at the authors' test they were never used."""
    network = resnet(legacy=True, dropout=dropout)
    path = saved(network, tmp_path / "latest_net_G.pth", "legacy")
    assert any("running_mean" in name for name in network.state_dict())
    made = import_translator(path, system="cyclegan", out=tmp_path / "out", quiet=True)
    norms = sum(isinstance(m, nn.InstanceNorm2d) for m in network.modules())
    assert made.found.passed_over == 3 * norms == 27
    wanted = official(network, picture())
    assert (load(tmp_path / "out").sample(picture(), options=QUIET) - wanted).abs().max() < 1e-4


def test_statistics_of_batch_norm_are_kept(tmp_path):
    network = unet("batch")
    made = import_translator(saved(network, tmp_path / "m.pth"), system="pix2pix", out=tmp_path / "out", quiet=True)
    kept = [t for name, t in made.network.state_dict().items() if "running" in name]
    theirs = [t for name, t in network.state_dict().items() if "running" in name]
    assert len(kept) == len(theirs) == 14
    assert {t.sum().item() for t in kept} == {t.sum().item() for t in theirs}
    assert made.found.passed_over == 7, "the counters alone"


def test_dropout_drops_where_the_official_network_does(tmp_path):
    """Of six levels, one upward step has it: the one after the innermost."""
    network = unet("batch", 6)
    import_translator(saved(network, tmp_path / "m.pth"), system="pix2pix", out=tmp_path / "out", quiet=True)
    ours = load(tmp_path / "out")
    official_drops = [name for name, module in network.named_modules() if isinstance(module, nn.Dropout)]
    assert official_drops == ["model.model.1.model.3.model.3.model.3.model.7"]
    x = picture(3, 64, 64)
    kept = []
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda m, i, o: kept.append((o != 0).float()))
    with torch.no_grad():
        wanted = network(x)

    def same_noise(values: Tensor, noise: object) -> Tensor:
        return values * 2 * kept[0]

    import photogram.recipes.pix2pix as recipe

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recipe, "dropped", same_noise)
        assert (ours.sample(x) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ("batch", "instance"))
@pytest.mark.parametrize(("strided", "patch"), ((0, 1), (1, 16), (2, 34), (3, 70), (4, 142)))
def test_discriminators_judge_as_the_official_ones(tmp_path, kind, strided, patch):
    network = loud(OfficialPatch(6, 4, strided, kind) if strided else OfficialPixel(6, 4, kind))
    path = saved(network, tmp_path / "latest_net_D.pth", module=True)
    assert find(open_checkpoint(path)).form == PatchForm(6, 4, patch, kind)
    ours = read_discriminator(path)
    assert isinstance(ours, PatchDiscriminator)
    x = picture(6, 64, 96)
    assert (ours(x) - official(network, x)).abs().max() < 1e-4
    assert official(network, x).std() > 0.01


@pytest.mark.parametrize(
    ("network", "parameters"),
    (
        (lambda: OfficialUNet(3, 3, 64, 8, "batch", True), 54_413_955),
        (lambda: OfficialUNet(3, 3, 64, 7, "instance"), 41_825_667),
        (lambda: OfficialUNet(1, 2, 64, 8, "batch"), 54_409_858),
        (lambda: OfficialResNet(3, 3, 64, 9, "instance", False), 11_378_179),
        (lambda: OfficialResNet(3, 3, 64, 6, "batch", True), 7_841_411),
        (lambda: OfficialPatch(6, 64, 3, "batch"), 2_768_705),
        (lambda: OfficialPixel(6, 64, "instance"), 8_897),
    ),
)
def test_our_table_has_all_official_names_and_counts(network, parameters):
    """Of the full sizes, on the meta device: the specification's counts and the modules' own names."""
    with torch.device("meta"):
        made = network()
    form = {
        54_413_955: UNetForm(3, 3, 64, 8, "batch"),
        41_825_667: UNetForm(3, 3, 64, 7, "instance"),
        54_409_858: UNetForm(1, 2, 64, 8, "batch"),
        11_378_179: ResNetForm(3, 3, 64, 9, "instance", False),
        7_841_411: ResNetForm(3, 3, 64, 6, "batch", True),
        2_768_705: PatchForm(6, 64, 70, "batch"),
        8_897: PatchForm(6, 64, 1, "instance"),
    }[parameters]
    assert sum(p.numel() for p in made.parameters()) == parameters
    wanted = {name: tuple(t.shape) for name, t in made.state_dict().items()}
    table = {name: variable.shape for name, variable in form.variables().items()}
    assert wanted.items() <= table.items()
    learned = dict(made.named_parameters())
    assert set(learned) <= {name for name, variable in form.variables().items() if variable.ours}


# --- what is published -----------------------------------------------------------------------------------------------


def test_the_card_says_where_it_is_from(tmp_path):
    path = saved(unet(), tmp_path / "latest_net_G.pth", module=True)
    made = import_translator(path, system="pix2pix", out=tmp_path / "out", quiet=True)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for words in (
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "latest_net_G.pth",
        "- levels: 5",
        "- norm: batch",
        "`module.`",
        "Isola",
        "assumed: dropout, as pix2pix has unless told otherwise",
        "assumed: its size, 32 x 32",
        "not photogram's",
    ):
        assert words in card
    assert str(tmp_path) not in card
    assert made.network.spec.image_channels == 3 and made.network.spec.size == (32, 32)
    assert sorted(p.name for p in made.out.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_with_classes_it_paints_layouts_in_their_colours(tmp_path):
    classes = tuple(SceneClass(f"class {n}", (60 * n, 255 - 40 * n, 9 * n)) for n in range(4))
    write_classes(classes, tmp_path / "classes.json")
    network = unet()
    import_translator(
        saved(network, tmp_path / "m.pth"),
        system="pix2pix",
        out=tmp_path / "out",
        classes=tmp_path / "classes.json",
        quiet=True,
    )
    ours = load(tmp_path / "out")
    indices = torch.randint(4, (1, 8, 8), generator=torch.Generator().manual_seed(1)).repeat_interleave(4, 1)
    indices = indices.repeat_interleave(4, 2).to(torch.uint8)
    colours = torch.tensor([c.color for c in classes])[indices.long()].movedim(-1, 1) / 127.5 - 1
    found = ours.sample(Layout(indices), options=QUIET)
    assert (found - official(network, colours)).abs().max() < 1e-4
    one = saved(unet(inputs=1), tmp_path / "one.pth")
    with pytest.raises(UserError, match=r"--classes .*: layouts are shown as three channels of colour, but .* takes 1"):
        import_translator(one, system="pix2pix", out=tmp_path / "no", classes=tmp_path / "classes.json", quiet=True)
    assert not (tmp_path / "no").exists()


def test_lightness_to_colours_is_known(tmp_path):
    """The authors' colorization: L in, ab out; ours gives a photograph of the grey image's lightness."""
    path = saved(unet(inputs=1, outputs=2), tmp_path / "m.pth")
    made = import_translator(path, system="pix2pix", out=tmp_path / "out", quiet=True)
    ours = load(made.out)
    assert ours.predict == "ab" and ours.spec.photo_channels == 3
    assert ours.sample(picture(1, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("kind", (torch.float16, torch.bfloat16))
def test_half_precision_is_read_exactly(tmp_path, kind):
    values = OrderedDict((n, t.to(kind) if t.is_floating_point() else t) for n, t in resnet().state_dict().items())
    made = import_translator(saved(values, tmp_path / "m.pth"), system="cyclegan", out=tmp_path / "out", quiet=True)
    assert torch.equal(made.network.state_dict()["first.weight"], values["model.1.weight"].float())
    assert made.network.state_dict()["first.weight"].dtype == torch.float32


# --- option files ----------------------------------------------------------------------------------------------------

UNET = {"model": "pix2pix", "netG": "unet_32", "ngf": 2, "norm": "batch", "no_dropout": False}
UNET |= {"input_nc": 3, "output_nc": 3, "crop_size": 32, "direction": "BtoA"}
RESNET = {"model": "cycle_gan", "netG": "resnet_2blocks", "ngf": 4, "norm": "instance", "no_dropout": True}
RESNET |= {"input_nc": 3, "output_nc": 3, "crop_size": 360}


def option_file(path: Path, values: dict[str, Any], former: bool = False) -> Path:
    """As the authors' programs write it: today, with defaults; or formerly, without, and with some other keys."""
    names = {"netG": "which_model_netG", "crop_size": "fineSize", "direction": "which_direction"} if former else {}
    lines = ["----------------- Options ---------------", "               checkpoints_dir: ./checkpoints  "]
    for key, value in values.items():
        comment = "" if former else "\t[default: something: else]"
        lines.append(f"{names.get(key, key):>25}: {value!s:<30}{comment}")
    path.write_text("\n".join([*lines, "----------------- End -------------------", ""]))
    return path


@pytest.mark.parametrize("former", (False, True))
def test_options_that_agree_are_taken(tmp_path, former):
    options = option_file(tmp_path / "train_opt.txt", UNET | {"no_dropout": True, "crop_size": 64}, former)
    path = saved(unet(drop=False), tmp_path / "m.pth")
    made = import_translator(path, system="pix2pix", out=tmp_path / "out", options=options, quiet=True)
    assert made.network.spec.size == (64, 64) and made.assumed == ()
    assert isinstance(made.network, UNet) and made.network.dropout_at == "none"
    ours = load(tmp_path / "out")
    x = picture(3, 32, 32)
    assert torch.equal(ours.sample(x, 1), ours.sample(x, 2)), "no noise was learned, none is drawn"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "direction BtoA" in card and "assumed" not in card
    made = import_translator(
        saved(resnet(), tmp_path / "r.pth"),
        system="cyclegan",
        out=tmp_path / "r",
        options=option_file(tmp_path / "r.txt", RESNET, former),
        quiet=True,
    )
    assert made.network.spec.size == (360, 360) and made.assumed == ()


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    (
        (UNET, {"netG": "unet_256"}, "netG is 'unet_256', but the checkpoint holds unet_32"),
        (UNET, {"netG": "resnet_9blocks"}, "netG is 'resnet_9blocks', but the checkpoint holds unet_32"),
        (UNET, {"ngf": 64}, "ngf is '64', but the checkpoint holds 2"),
        (UNET, {"norm": "instance"}, "norm is 'instance', but the checkpoint holds batch"),
        (UNET, {"input_nc": 1}, "input_nc and output_nc are 1 and 3, but the checkpoint goes from 3 channels to 3"),
        (UNET, {"no_dropout": "perhaps"}, "no_dropout is 'perhaps'; it is True or False"),
        (
            UNET,
            {"model": "cycle_gan"},
            "model is 'cycle_gan', not pix2pix; it is imported by `photogram import cyclegan`",
        ),
        (UNET, {"model": "pix2pixHD"}, "model is 'pix2pixHD', not pix2pix"),
        (UNET, {"crop_size": "0"}, "crop_size is '0'; it must be 1 to 8192"),
        (UNET, {"crop_size": "9" * 5000}, "it must be 1 to 8192"),
        (UNET, {"crop_size": "1".zfill(9) + "9" * 5000}, "it must be 1 to 8192"),
        (UNET, {"crop_size": "0000025600000"}, "it must be 1 to 8192"),
        (UNET, {"crop_size": "٣"}, "it must be 1 to 8192"),
        (RESNET, {"no_dropout": False}, "no_dropout is 'False', but the checkpoint holds True"),
        (RESNET, {"netG": "resnet_9blocks"}, "netG is 'resnet_9blocks', but the checkpoint holds resnet_2blocks"),
        (RESNET, {"model": "pix2pix"}, "it is imported by `photogram import pix2pix`"),
    ),
)
def test_options_that_disagree_are_refused(tmp_path, base, changes, message):
    options = option_file(tmp_path / "train_opt.txt", base | changes)
    system: Literal["pix2pix", "cyclegan"] = "pix2pix" if base is UNET else "cyclegan"
    path = saved(unet() if base is UNET else resnet(), tmp_path / "m.pth")
    with pytest.raises(UserError) as refused:
        import_translator(path, system=system, out=tmp_path / "out", options=options, quiet=True)
    assert message in str(refused.value) and str(refused.value).startswith(f"{options}: ")
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_of_two_generators_one_goes_back(tmp_path):
    """CycleGAN's G_B goes from output_nc channels to input_nc; pix2pix has no such network."""
    options = option_file(tmp_path / "o.txt", RESNET | {"input_nc": 1})
    path = saved(resnet(inputs=3, outputs=1), tmp_path / "latest_net_G_B.pth")
    made = import_translator(path, system="cyclegan", out=tmp_path / "out", options=options, quiet=True)
    assert (made.network.spec.image_channels, made.network.spec.photo_channels) == (3, 1)
    options = option_file(tmp_path / "o.txt", UNET | {"input_nc": 1})
    path = saved(unet(inputs=3, outputs=1), tmp_path / "latest_net_G.pth")
    with pytest.raises(UserError, match="input_nc and output_nc are 1 and 3, but the checkpoint goes from 3 channels"):
        import_translator(path, system="pix2pix", out=tmp_path / "no", options=options, quiet=True)


def test_the_discriminators_options_are_compared(tmp_path):
    options = {"netG": "unet_256", "ndf": 4, "norm": "batch", "netD": "n_layers", "n_layers_D": 2}
    path = saved(loud(OfficialPatch(6, 4, 2, "batch")), tmp_path / "latest_net_D.pth")
    read_discriminator(path, option_file(tmp_path / "o.txt", options))
    with pytest.raises(UserError, match="netD is 'n_layers of 3', but the checkpoint holds n_layers of 2"):
        read_discriminator(path, option_file(tmp_path / "o.txt", options | {"netD": "basic"}))
    with pytest.raises(UserError, match="ndf is '64'"):
        read_discriminator(path, option_file(tmp_path / "o.txt", options | {"ndf": 64}))
    with pytest.raises(UserError, match=r"is a U-Net of 5 levels, not a discriminator; give latest_net_D.pth"):
        read_discriminator(saved(unet(), tmp_path / "g.pth"))


@pytest.mark.parametrize(
    ("data", "message"),
    (
        (b"netG: unet_256\nnetG: unet_128\n", "line 2 gives 'netG' a second time"),
        (b"netG: unet_256\nwhich_model_netG: unet_128\n", "line 2 gives 'netG' a second time"),
        (b"netG: unet_256\n{}\n", "line 2 is '{}', not `key: value`"),
        (b"ngf: 64\n", "has no netG"),
        (b"", "has no netG"),
        (b"\xff\xfe\0", "is no text"),
        (b"netG: " + b"x" * (1 << 18), "longer than the limit"),
        (b"\x1b[31m\n", r"line 1 is '\x1b[31m', not"),
    ),
)
def test_other_files_are_no_option_files(tmp_path, data, message):
    (tmp_path / "o.txt").write_bytes(data)
    with pytest.raises(UserError) as refused:
        read_options(tmp_path / "o.txt")
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_values_are_taken_without_their_defaults(tmp_path):
    (tmp_path / "o.txt").write_text(
        "----- Options ------\n   netG: unet_256     \t[default: resnet_9blocks]\n gpu_ids: 0,1 \n"
        " suffix:  \t[default: ]\n  name: a: b\n"
    )
    assert dict(read_options(tmp_path / "o.txt")) == {
        "netG": "unet_256",
        "gpu_ids": "0,1",
        "suffix": "",
        "name": "a: b",
    }


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "change", "message"),
    (
        (unet, dropped("model.model.3.bias"), "'model.model.3.bias' is missing (1 such); a U-Net of 5 levels with"),
        (unet, dropped("running_var"), "running_var' is missing (7 such)"),
        (unet, put("model.model.1.model.9.weight", 2), "'model.model.1.model.9.weight' is unknown (1 such)"),
        (unet, put("model.model.1.model.1.bias", 4), "'model.model.1.model.1.bias' is unknown"),
        (unet, put("model.model.0.weight", 2, 3, 3, 3), "is [2, 3, 3, 3], but the other tensors ask for [2, 3, 4, 4]"),
        (unet, put("model.model.0.weight", 0, 3, 4, 4), "is [0, 3, 4, 4]; it must be 4 dimensions, 1 or more each"),
        (unet, put("model.model.1.model.1.weight", 4, 3, 4, 4), "but the other tensors ask for [4, 2, 4, 4]"),
        (unet, put("model.model.3.bias", 3, kind=torch.float64), "is of float64; it must be float32"),
        (unet, put("model.model.3.bias", 3, kind=torch.int64), "is of int64; it must be float32"),
        (unet, dropped("model.model.1.model.2.weight"), "networks without norms are not read"),
        (resnet, dropped("model.11."), "'model.18.weight' is missing"),
        (resnet, dropped("model.10.conv_block.1.bias"), "'model.10.conv_block.1.bias' is missing (1 such)"),
        (resnet, put("model.1.weight", 4, 3, 5, 5), "is [4, 3, 5, 5], but the other tensors ask for [4, 3, 7, 7]"),
        (resnet, put("model.10.conv_block.2.weight", 16), "'model.10.conv_block.2.weight' is unknown"),
        (resnet, lambda v: v["model.4.weight"].fill_(torch.nan), "down.0.weight (our name) holds values that are not"),
        (resnet, lambda v: v["model.4.weight"].fill_(torch.inf), "the training had failed"),
        (resnet, lambda v: v.update({"module.model.1.bias": v["model.1.bias"]}), "with and without 'module.'"),
        (resnet, lambda v: v.update(epoch=3), "'epoch' is a int, not a tensor"),
        (resnet, lambda v: v.update(netG=dict(v)), "'netG' is a dictionary: a training's state"),
        (resnet, lambda v: v.clear(), "holds nothing"),
    ),
)  # fmt: skip
def test_other_networks_are_refused_by_name(tmp_path, network, change, message):
    values: Values = network().state_dict()
    change(values)
    refused(saved(values, tmp_path / "m.pth"), message)


def refused(path: Path, message: str) -> None:
    for system in ("pix2pix", "cyclegan"):
        with pytest.raises(UserError) as raised:
            import_translator(path, system=system, out=path.parent / "out", quiet=True)
        assert message in str(raised.value), str(raised.value)
        assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
        assert not (path.parent / "out").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    (
        (lambda: OfficialPatch(6, 4, 3, "batch"), "of patches of 70 x 70 pixels that sees 6 channels, not"),
        (lambda: OfficialPixel(3, 4, "batch"), "is a discriminator of patches of 1 x 1 pixels that"),
        (lambda: resnet(down=4), "its blocks begin at model.16, not model.10: it is no generator of CycleGAN"),
        (lambda: resnet(down=3), "as pix2pixHD's is"),
        (lambda: named("model1_1.1.weight", "model1_2.0.conv_block.1.weight"), "is pix2pixHD's local"),
        (lambda: named("scale0_layer0.0.weight"), "is pix2pixHD's discriminator"),
        (lambda: named("layer0.0.weight"), "is pix2pixHD's discriminator"),
        (lambda: named("model.1.weight", "model.4.weight", "model.29.weight"), "is pix2pixHD's encoder of features"),
        (lambda: named("fc.weight", "head_0.conv_0.weight_orig"), "is SPADE's generator"),
        (lambda: named("discriminator_0.model0.0.weight"), "is a discriminator of several scales"),
        (lambda: named("features.0.weight"), "is a network that classifies"),
        (lambda: named("conv1.weight"), "is no network of pix2pix or CycleGAN"),
        (lambda: named("model.10.conv_block.0.weight"), "its blocks pad with zeros"),
        (lambda: named("model.conv_block.x"), "'model.conv_block.x' is unknown"),
        (lambda: named("model.0.weight"), "is no network of pix2pix or CycleGAN, though"),
        (lambda: named("model.model.0.weight"), "'model.model.3.weight' is missing"),
        (lambda: torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict(), "is an optimizer's state, not a network"),
    ),
)  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
def test_other_kinds_are_named(tmp_path, made, message, form):
    refused(saved(made(), tmp_path / "m.pth", form), message)


def test_an_optimizer_that_has_stepped_is_named(tmp_path):
    network = nn.Linear(2, 2)
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    adam.step()
    for form in FORMS:
        refused(saved(adam.state_dict(), tmp_path / "m.pth", form), "is an optimizer's state")


def test_a_network_beyond_all_measure_is_refused_before_it_is_read(tmp_path):
    """One tensor says that it has 1024 features; the others would be gigabytes, were they as they must be."""
    values = OfficialUNet(3, 3, 2, 5, "batch").state_dict()
    values["model.model.0.weight"] = torch.zeros(1024, 3, 4, 4)
    refused(saved(values, tmp_path / "m.pth"), "parameters, more than the limit of 1,073,741,824; refused")


def test_a_hostile_file_leaves_nothing(tmp_path):
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'trap'}",)

    for form in FORMS:
        refused(
            saved(OrderedDict({**unet().state_dict(), "x": Hostile()}), tmp_path / "m.pth", form),
            "nothing of it was run",
        )
    assert not (tmp_path / "trap").exists()


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_imports(tmp_path, capsys):
    options = option_file(tmp_path / "train_opt.txt", UNET)
    path, out = saved(unet(), tmp_path / "latest_net_G.pth"), tmp_path / "out"
    assert main(["import", "pix2pix", str(path), "--out", str(out), "--options", str(options)]) == 0
    said = capsys.readouterr().out
    assert "a U-Net of 5 levels, batch norm" in said and "assumed" not in said
    assert isinstance(load(out), UNet)
    path = saved(resnet(), tmp_path / "latest_net_G_A.pth")
    assert main(["import", "cyclegan", str(path), "--out", str(tmp_path / "two")]) == 0
    assert "assumed, as the checkpoint does not say: its size, 256 x 256" in capsys.readouterr().out
    assert main(["import", "cyclegan", str(options), "--out", str(tmp_path / "three")]) == 1
    assert "is no checkpoint of PyTorch" in capsys.readouterr().err
    (tmp_path / "old.t7").write_bytes(b"\4\0\0\0\1\0\0\0\3\0\0\0V 1")
    assert main(["import", "pix2pix", str(tmp_path / "old.t7"), "--out", str(tmp_path / "three")]) == 1
    error = capsys.readouterr().err
    assert "Lua Torch (.t7), which is not read" in error and error.count("\n") == 1
