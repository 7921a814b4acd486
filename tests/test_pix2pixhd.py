"""pix2pixHD's training against plain formulas; stages, freezing and rates (checks 10.5, 10.6, 10.8)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from toy_scenes import ToyGreys

from photogram.checkpoint import save_state
from photogram.data.toy import Toy
from photogram.errors import UserError
from photogram.nn.regions import boundaries
from photogram.recipe import Run
from photogram.recipes import load
from photogram.recipes.pix2pixhd import Pix2PixHD, Pix2PixHDTraining
from photogram.recipes.pix2pixhd_networks import CoarseToFineGenerator
from photogram.scene import Scene, collate, one_hot
from photogram.training import Plan, train

SIZE = (32, 48)
TINY: dict[str, Any] = {
    **{"width": 8, "downsamplings": 1, "blocks": 1, "enhancer_blocks": 1, "encoder_width": 8},
    **{"discriminator_width": 8, "perceptual": "none"},
}


def scene(count: int = 1, data: type[Toy] = Toy) -> Scene:
    return collate([data("train", size=SIZE, count=4)[n, 0] for n in range(count)])


def start(photographs: int = 4, start_from: Path | None = None, state: Any = None, **recipe: Any) -> Pix2PixHDTraining:
    AcceleratorState._reset_state(reset_partial_state=True)  # whatever a test before has asked for
    torch.manual_seed(0)
    spec = Toy("train", size=SIZE, count=4).spec
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    run = Run(accelerator, spec, photographs, 1, 0, start_from, lambda: state)
    return Pix2PixHD(**{**TINY, **recipe}).start(run)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


def plain_loss(training: Pix2PixHDTraining, scene: Scene) -> tuple[Tensor, Tensor]:
    """Both sides' objectives on planes, by loops over scales and layers (specification 4.5)."""
    generator, layout = training.painter, scene.condition.layout
    assert layout is not None and scene.photo is not None
    planes = torch.cat([one_hot(layout.classes, generator.spec.num_classes), boundaries(layout)], 1)
    fake = generator(scene.condition)
    sides: list[list[list[Tensor]]] = []
    for picture in (scene.photo, fake, fake.detach()):
        x, scales = torch.cat([planes, picture], 1), []
        for judge in training.judges.scales:
            y, found = x, []
            for n, conv in enumerate((*judge.convs, judge.to_logits)):  # pyright: ignore
                y = conv(y)
                if conv is not judge.to_logits:
                    y = F.leaky_relu(nn.InstanceNorm2d(y.shape[1])(y) if n else y, 0.2)
                found.append(y)
            scales.append(found)
            x = nn.AvgPool2d(3, 2, 1, count_include_pad=False)(x)
        sides.append(scales)
    real, fakes, detached = sides
    d_loss, g_loss = torch.zeros(()), torch.zeros(())
    for on_real, on_fake, on_detached in zip(real, fakes, detached, strict=True):
        d_loss = d_loss + 0.5 * (((on_real[-1] - 1) ** 2).mean() + (on_detached[-1] ** 2).mean())
        g_loss = g_loss + ((on_fake[-1] - 1) ** 2).mean()
        for a, b in zip(on_real[:-1], on_fake[:-1], strict=True):
            g_loss = g_loss + 10 / len(real) * (a.detach() - b).abs().mean()
    return d_loss, g_loss


def test_a_step_is_the_papers_game():
    """Losses, and the weights after them, of both sides, against plain modules on planes."""
    training, twin, one = start(), start(), scene()
    d_loss, g_loss = plain_loss(twin, one)
    gradients = {
        "generator": torch.autograd.grad(g_loss, list(twin.painter.parameters()), retain_graph=True),
        "judges": torch.autograd.grad(d_loss, list(twin.judges.parameters())),
    }
    said = training.step(one, 0)
    assert said["discriminator"].item() == pytest.approx(d_loss.item(), rel=1e-5)
    assert said["loss"].item() == pytest.approx(g_loss.item(), rel=1e-5)
    for side, module, old in (
        ("generator", training.painter, twin.painter),
        ("judges", training.judges, twin.judges),
    ):
        adam = torch.optim.Adam(old.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for parameter, gradient in zip(old.parameters(), gradients[side], strict=True):
            parameter.grad = gradient
        adam.step()
        for ours, theirs, gradient in zip(module.parameters(), old.parameters(), gradients[side], strict=True):
            sure = gradient.abs() > 1e-6  # Adam's first step is the sign of a gradient, of rounding too
            torch.testing.assert_close(ours[sure], theirs[sure], atol=2e-6, rtol=1e-3)


def test_neither_side_learns_from_the_others_objective():
    """The discriminators' gradients are those of their own objective; nothing reaches the generator through it."""
    training, one = start(feature_matching=10.0), scene()
    before = weights(training.judges)
    training.step(one, 0)
    mine = [p.grad.clone() for p in training.judges.parameters() if p.grad is not None]
    assert len(mine) == len(before)
    again = start(feature_matching=0.0)  # the generator's part differs, that of the discriminators does not
    again.step(one, 0)
    for a, p in zip(mine, again.judges.parameters(), strict=True):
        assert p.grad is not None and torch.equal(a, p.grad)


def test_the_encoder_learns_with_the_generator_and_only_where_it_is_asked_to():
    training, one = start(features="objects"), scene()
    assert training.painter.encoder is not None
    before = weights(training.painter.encoder)
    training.step(one, 0)
    assert {"first.weight", "last.weight"} <= changed(training.painter.encoder, before)


def test_a_class_has_its_mean_style_until_styles_are_clustered():
    training, one = start(features="classes"), scene()
    layout = one.condition.layout
    assert layout is not None and one.photo is not None
    expected = training.painter.styles_in(one.photo, layout)  # as the first step reads them
    training.step(one, 0)
    classes = training.painter.regions(layout).classes
    torch.testing.assert_close(training.painter.style_centres[classes, 0], expected, atol=1e-5, rtol=1e-4)
    assert (
        training.painter.style_counts.sum(1).tolist()
        == torch.bincount(classes, minlength=training.painter.spec.num_classes).tolist()
    )
    assert training.painter.has_styles and not training.painter.has_choices
    before = training.painter.style_centres[classes, 0].clone()
    training.step(scene(2), 1)  # with a second scene the mean is of two of each class that both have
    assert not torch.equal(training.painter.style_centres[classes, 0], before)
    assert int(training.painter.style_counts.max()) == 3


def test_weights_lie_in_memory_as_their_gradients_and_means_do():
    """Else torch's fused Adam would move others than it means to, silently."""
    training = start(features="objects", enhancers=1, scales=3)
    training.step(scene(), 0)
    for adam in (training.generator_adam, training.discriminator_adam):
        held = [p for group in adam.param_groups for p in group["params"]]
        assert any(p.stride() != torch.empty(p.shape).stride() for p in held), "some lie in channels last"
        for p in held:
            assert p.grad is not None
            means = (adam.state[p][name] for name in ("exp_avg", "exp_avg_sq"))
            assert all(other.stride() == p.stride() for other in (p.grad, *means))


def test_moments_that_lie_otherwise_are_laid_as_their_weights():
    """As in states of versions in which no weights lay channels last."""

    def otherwise(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.detach().clone(memory_format=torch.contiguous_format)
        if isinstance(part, dict):
            return {name: otherwise(value) for name, value in part.items()}
        return [otherwise(value) for value in part] if isinstance(part, list) else part

    first = start()
    first.step(scene(), 0)
    state = otherwise(first.state_dict())
    second = start()
    second.load_state_dict(state)
    for training in (first, second):
        training.step(scene(), 1)
    assert not changed(second.painter, weights(first.painter)) and not changed(second.judges, weights(first.judges))


def test_the_enhancer_learns_alone_then_all_learn_and_every_rate_falls(tmp_path):
    """Check 10.5, and the fault of the published code (specification 9, number 1)."""
    recipe = {"enhancers": 1, "freeze_epochs": 1, "epochs": 2, "decay_epochs": 4, "feature_matching": 10.0}
    training, one = start(start_from=published(tmp_path / "g1")[1], **recipe), scene()
    inner = {n for n, _ in training.painter.named_parameters() if n.startswith("coarse")}
    outer = {n for n, _ in training.painter.named_parameters()} - inner
    rates = []
    for step in range(24):  # epochs of four photographs
        before = weights(training.painter)
        training.step(one, step)
        moved = changed(training.painter, before)
        assert moved & outer
        assert bool(moved & inner) == (step >= 4), f"step {step}"
        (group,) = training.generator_adam.param_groups  # every parameter is in it
        assert len(group["params"]) == len(inner | outer)
        rates.append(group["lr"])
        assert training.discriminator_adam.param_groups[0]["lr"] == group["lr"]
    assert rates[::4] == pytest.approx([2e-4, 2e-4, 2e-4, 1.5e-4, 1e-4, 5e-5])


def test_an_encoder_that_learns_gets_its_gradient_through_what_is_frozen(tmp_path):
    _, folder = published(tmp_path / "g1", features="objects")
    training, one = start(start_from=folder, enhancers=1, freeze_epochs=1, features="objects"), scene()
    before = weights(training.painter)
    training.step(one, 0)
    moved = changed(training.painter, before)
    assert {n for n in moved if n.startswith("encoder")} and not {n for n in moved if n.startswith("coarse")}


def published(folder: Path, **recipe: Any) -> tuple[Pix2PixHDTraining, Path]:
    training = start(**recipe)
    training.step(scene(), 0)
    training.painter.save_pretrained(folder, "card")
    save_state(folder / "state", 1, {"training": training.state_dict()})
    return training, folder


def test_a_stage_takes_up_the_last_one(tmp_path):
    """Check 10.8: the coarse generator paints the same features, discriminators stay at their size, the finest is
    fresh."""
    first, folder = published(tmp_path / "g1")
    second = start(start_from=folder, state=first.state_dict(), enhancers=1, scales=3)
    fresh = start(enhancers=1, scales=3)
    layout = scene().condition.layout
    assert layout is not None
    asked = first.painter.asked(scene().condition, None)
    torch.testing.assert_close(second.painter.before_last(asked), first.painter.before_last(asked), atol=0, rtol=0)
    for n in range(2):
        old, new = first.judges.scales[n].state_dict(), second.judges.scales[n + 1].state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    begun = {
        name: torch.equal(p, q)
        for (name, p), q in zip(
            second.judges.scales[0].named_parameters(), fresh.judges.scales[0].parameters(), strict=True
        )
    }
    assert all(begun.values())
    facts = second.facts()
    assert "coarse" in facts["taken from --from"] and "finer 0" in facts["begun anew"]
    assert facts["left behind"].startswith("last") and facts["discriminators"] == "2 taken from --from, 1 begun anew"
    assert set(second.step(scene(), 0)) >= {"loss", "discriminator", "adversarial", "matching"}


def test_the_second_stage_reads_styles_by_the_frozen_encoder_of_the_first(tmp_path):
    first, folder = published(tmp_path / "g1", features="objects")
    second = start(start_from=folder, enhancers=1, features="objects", train_encoder=False)
    assert second.painter.encoder_shrink == 2
    assert second.painter.encoder is not None and first.painter.encoder is not None
    before = weights(second.painter.encoder)
    assert all(torch.equal(before[n], p) for n, p in first.painter.encoder.named_parameters())
    second.step(scene(), 0)
    assert not changed(second.painter.encoder, before)
    third = start(start_from=folder, enhancers=2, features="objects", train_encoder=False)
    assert third.painter.encoder_shrink == 4
    assert third.facts()["discriminators"].startswith("begun anew")  # no state was given


def test_attention_may_join_a_generator_that_has_learned(tmp_path):
    first, folder = published(tmp_path / "first")
    second = start(start_from=folder, state=first.state_dict(), generator_attention=True)
    condition = scene().condition
    assert torch.equal(second.painter(condition), first.painter(condition))


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"enhancers": 1}, {}, "was trained with --enhancers 1, but this run has 0; give 1 or more"),
        ({}, {"width": 16}, "has width 8, not 16"),
        ({}, {"features": "objects"}, "was trained without styles, not with --features objects --feature-channels 3"),
        ({"features": "classes"}, {}, "was trained with --features classes --feature-channels 3; give it the same"),
        (
            {"features": "classes"},
            {"features": "objects"},
            "was trained with --features classes --feature-channels 3; give it the same",
        ),
        ({"generator_attention": True}, {}, "has self-attention in its generator; give --generator-attention"),
    ],
)
def test_other_networks_are_not_taken_up(tmp_path, there, here, message):
    first, folder = published(tmp_path / "first", **there)
    with pytest.raises(UserError, match=message):
        start(start_from=folder, state=first.state_dict(), **here)


def test_an_encoder_that_is_not_there_cannot_be_kept(tmp_path):
    """As of a network that others published without."""
    generator = start(features="objects").painter
    bare = CoarseToFineGenerator(**generator.arguments() | {"spec": generator.spec, "encodes": False})
    bare.save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="has no encoder, so that there is none to keep; leave out --no-train-encoder"):
        start(start_from=tmp_path / "bare", features="objects", train_encoder=False)
    assert start(start_from=tmp_path / "bare", features="objects").painter.encodes


@pytest.mark.parametrize(("kind", "then"), [("hybrid", "hybrid"), ("multiscale", "attention"), ("attention", "hybrid")])
def test_a_stage_may_be_judged_by_another_kind(tmp_path, kind, then):
    first, folder = published(tmp_path / "g1", discriminator=kind)
    second = start(start_from=folder, state=first.state_dict(), enhancers=1, scales=3, discriminator=then)
    taken = {"hybrid": "1 taken from --from, 2 begun anew, 1 left behind"}.get(kind, "0 taken from --from")
    assert second.facts()["discriminators"].startswith(taken)
    assert bool(torch.isfinite(second.step(scene(), 0)["loss"]))


def test_blocks_of_enhancers_are_free_where_there_were_none(tmp_path):
    first, folder = published(tmp_path / "g1")
    second = start(start_from=folder, state=first.state_dict(), enhancers=1, enhancer_blocks=2, scales=3)
    assert len(second.painter.finer) == 1
    _, folder = published(tmp_path / "g2", enhancers=1)
    with pytest.raises(UserError, match="has enhancer_blocks 1, not 2"):
        start(start_from=folder, enhancers=1, enhancer_blocks=2)


def test_fewer_discriminators_than_before_are_refused(tmp_path):
    first, folder = published(tmp_path / "first", scales=3)
    with pytest.raises(UserError, match="give 3 or more"):
        start(start_from=folder, state=first.state_dict(), enhancers=1, scales=2)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"scales": 5}, "--scales 5: must be 1 to 4"),
        ({"freeze_epochs": 1}, "--freeze-epochs 1: without --enhancers"),
        ({"freeze_epochs": 200, "enhancers": 1}, "--freeze-epochs 200: all must learn before epoch 200"),
        ({"train_encoder": False}, "there is no encoder"),
        ({"train_encoder": False, "features": "objects"}, "name one with --from"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0"),
        ({"feature_matching": -1.0}, "--feature-matching -1.0"),
        ({"downsamplings": 0}, "--downsamplings 0"),
        ({"perceptual": "nothing.pth"}, "nothing.pth: no such file"),
        ({"detail_weight": 0.5}, "--detail-weight, --detail-epochs: are of --discriminator hybrid alone"),
        ({"detail_epochs": 5, "discriminator": "attention"}, "are of --discriminator hybrid alone"),
        ({"attention_budget": 0, "discriminator": "hybrid"}, "--attention-budget 0"),
        ({"kv_pool": 2}, "--kv-pool 2: is of self-attention; give --discriminator attention or hybrid with it"),
        ({"attention_mode": "crop"}, "--attention-mode crop: is of self-attention"),
        ({"freeze_epochs": 1, "enhancers": 1}, "--freeze-epochs 1: what would be frozen has learned nothing"),
        ({"beta2": 1.0}, "--beta2 1.0"),
    ],
)
def test_what_cannot_be_is_refused_at_the_door(recipe, message):
    with pytest.raises(UserError, match=message):
        start(**recipe)


def test_a_size_without_two_pixels_in_the_middle_is_refused_before_a_run_begins(tmp_path):
    size = (16, 32)
    with pytest.raises(UserError, match="16, 32 at least; the nearest possible heights are 32"):
        train(
            Pix2PixHD(**TINY | {"downsamplings": 4}), Toy("train", size=size, count=4), tmp_path / "run", Plan(steps=1)
        )
    assert not (tmp_path / "run").exists()
    # And what discriminators need: 24 for self-attention.
    assert Pix2PixHD(**TINY).least_side() == 4 and Pix2PixHD(**TINY, discriminator="hybrid").least_side() == 24


@pytest.mark.parametrize("game", ["vanilla", "lsgan", "hinge", "wgangp"])
@pytest.mark.parametrize("kind", ["multiscale", "attention", "hybrid"])
def test_every_game_is_played_with_every_kind_of_discriminator(game, kind):
    training = start(game=game, discriminator=kind, spectral=True)
    for step in range(2):
        said = training.step(scene(2), 2 * step)
        assert all(bool(torch.isfinite(value)) for value in said.values())
    assert ("penalty" in said) == (game == "wgangp")


def test_the_hybrids_detail_comes_in_slowly():
    """Specification 6.5: its weight rises from 0, and is of the generator's game alone."""
    hybrid = {"discriminator": "hybrid", "detail_weight": 0.5, "detail_epochs": 2}
    training = start(photographs=10, **hybrid)
    assert [training.detail_weight(seen) for seen in (0, 5, 10, 20, 99)] == [0, 0.125, 0.25, 0.5, 0.5]
    for seen in (0, 10, 20):  # the same first step, told that so many photographs were shown
        terms = start(photographs=10, **hybrid)
        with torch.inference_mode():
            judged = terms.judge(
                terms.painter.asked_alone(scene().condition, None), terms.painter(scene().condition), None
            )
        detail, patches = ((one[-1] - 1).square().mean() for one in judged)
        expected = terms.detail_weight(seen) * detail + patches
        assert terms.step(scene(), seen)["adversarial"].item() == pytest.approx(float(expected), rel=1e-4)


def test_what_attention_is_made_of_can_be_asked_for():
    training = start(
        discriminator="hybrid", attention_budget=64, kv_pool=2, detail_norm="instance", beta1=0.0, beta2=0.9
    )
    detail: Any = training.judges.scales[0]
    assert (detail.attention.budget, detail.attention.kv_pool, detail.norm) == (64, 2, "instance")
    for adam in (training.generator_adam, training.discriminator_adam):
        assert adam.param_groups[0]["betas"] == (0.0, 0.9)


def test_the_trunk_and_attention_are_looked_at_in_every_fifth_step():
    training = start(discriminator="hybrid")
    said = [training.step(scene(), step) for step in range(10)]
    looked = [n for n, one in enumerate(said) if "blobs/trunk" in one]
    assert looked == [4, 9]
    assert 1 / 256 <= float(said[4]["blobs/trunk"]) < 0.5 and any(name.startswith("gamma/") for name in said[4])


def test_gammas_of_both_sides_are_logged():
    said = start(discriminator="hybrid", generator_attention=True, blocks=2).step(scene(), 4)
    assert [name for name in said if name.startswith("gamma/")] == [
        "gamma/scales.0.attention",
        "gamma/generator.coarse.attention",
    ]


def test_attention_to_windows_sees_the_same_of_photograph_and_painting(monkeypatch):
    training, seen = start(discriminator="attention", attention_mode="crop"), []
    judges = training.judges
    monkeypatch.setattr(judges, "crop", 24)
    forward = judges.forward
    monkeypatch.setattr(judges, "forward", lambda shown: (seen.append(shown.windows), forward(shown))[1])
    training.step(scene(), 0)
    assert len(seen) == 3 and seen[0] is not None and seen[0] == seen[1] == seen[2]


def test_held_out_scenes_without_objects_are_refused_before_the_first_step(tmp_path):
    class Flat(Toy):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.spec = replace(self.spec, instances=False)

    data, flat = (kind("train", size=SIZE, count=4) for kind in (Toy, Flat))
    plan = Plan(steps=1, workers=0, quiet=True, precision="fp32")
    with pytest.raises(
        UserError, match=r"has no instance maps, which CoarseToFineGenerator needs .*--boundary classes"
    ):
        train(Pix2PixHD(**TINY), data, tmp_path / "run", plan, flat)
    assert not (tmp_path / "run" / "state").exists()


def test_images_are_painted_without_layouts(tmp_path):
    recipe = Pix2PixHD(**TINY)
    data = ToyGreys("train", size=SIZE, count=4)
    train(recipe, data, tmp_path / "run", Plan(steps=2, workers=0, quiet=True, precision="fp32"))
    network = load(tmp_path / "run")
    assert isinstance(network, CoarseToFineGenerator) and network.boundary == "none"
    assert network.sample(torch.zeros(1, 1, 20, 30)).shape == (1, 3, 20, 30)


def test_a_stage_is_taken_up_from_a_run_with_its_discriminators(tmp_path):
    data = Toy("train", size=SIZE, count=4)
    plan = {"workers": 0, "quiet": True, "precision": "fp32"}
    train(Pix2PixHD(**TINY), data, tmp_path / "g1", Plan(steps=2, **plan))
    train(
        Pix2PixHD(**TINY, enhancers=1, scales=3),
        data,
        tmp_path / "g2",
        Plan(steps=2, start_from=tmp_path / "g1", **plan),
    )
    said = (tmp_path / "g2" / "run.json").read_text()
    assert "2 taken from --from, 1 begun anew" in said


def test_discriminators_more_without_an_enhancer_more_are_coarser(tmp_path):
    first, folder = published(tmp_path / "first")
    second = start(start_from=folder, state=first.state_dict(), scales=3)
    fresh = start(scales=3).judges.scales
    for here, there in zip(second.judges.scales, (*first.judges.scales, fresh[2]), strict=True):
        assert not changed(here, weights(there))
    assert second.facts()["discriminators"].startswith("2 taken from --from, 1 begun anew")


def test_a_stage_with_a_frozen_encoder_goes_on_when_its_source_is_gone(tmp_path):
    """To the last bit, with the encoder at half the size, and what was taken still in `run.json`."""
    data = Toy("train", size=SIZE, count=4)
    options: dict[str, Any] = {"workers": 0, "quiet": True, "precision": "fp32", "start_from": tmp_path / "g1"}
    recipe = Pix2PixHD(
        **{**TINY, "features": "objects", "enhancers": 1, "scales": 3, "average": 10.0},
        **{"train_encoder": False, "freeze_epochs": 1},
    )
    train(Pix2PixHD(**TINY, features="objects"), data, tmp_path / "g1", Plan(steps=2, **options | {"start_from": None}))
    train(recipe, data, tmp_path / "whole", Plan(steps=6, **options))  # the enhancer alone for four of them
    train(recipe, data, tmp_path / "halves", Plan(steps=3, **options))
    begun = json.loads((tmp_path / "halves" / "run.json").read_text())["found"]
    (tmp_path / "g1").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"Repeat the first command.*the folder of --from need not be there any more"):
        train(recipe, data, tmp_path / "halves", Plan(steps=6, **options | {"start_from": tmp_path / "elsewhere"}))
    train(recipe, data, tmp_path / "halves", Plan(steps=6, **options))
    whole, halves = (load(tmp_path / name) for name in ("whole", "halves"))
    assert isinstance(halves, CoarseToFineGenerator) and halves.encoder_shrink == 2
    assert whole.arguments() == halves.arguments()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, halves.state_dict()[name]), name
    found = json.loads((tmp_path / "halves" / "run.json").read_text())["found"]
    assert found == begun and "encoder" in found["taken from --from"]
    assert "2 taken from --from, 1 begun anew" in (tmp_path / "halves" / "README.md").read_text()


def test_a_state_that_does_not_say_how_its_encoder_reads_is_refused():
    training = start(features="objects")
    state = training.state_dict()
    del state["source"]
    training.load_state_dict(state)  # it learns, at full size
    training.recipe = replace(training.recipe, train_encoder=False)
    with pytest.raises(UserError, match="state does not say at what size the encoder reads"):
        training.load_state_dict(state)
