"""CycleGAN: the counts, the step against a plain one, the pool, who learns when, and that it survives a stop."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from small_training import gradients, outcome, run_python
from test_resnet import loud
from test_resnet import twin as plain_generator
from torch import Tensor, nn
from toy_scenes import ToyUnpaired

from photogram.advice import is_diagnostic
from photogram.data.toy import Toy
from photogram.errors import UserError
from photogram.losses import discriminator_loss, generator_loss
from photogram.nn.augment import Augmentation, augmented
from photogram.nn.diagnostics import checkerboard
from photogram.nn.jitter import jittered
from photogram.nn.patch import PatchDiscriminator
from photogram.optim import linear_decay
from photogram.planning import Asked, dry_run
from photogram.recipe import Run
from photogram.recipes import cyclegan, load
from photogram.recipes.cyclegan import CycleGAN, CycleGANTraining, PicturePool
from photogram.scene import Condition, Scene, SceneSpec
from photogram.training import Plan, train

SPEC = SceneSpec((), (16, 24), image_channels=3)
SMALL = CycleGAN(width=4, blocks=2, patch=16, discriminator_width=4, jitter=0.0)
ALL_OF_IT: tuple[Augmentation, ...] = ("color", "translation", "cutout")


def scene(number: int = 0, n: int = 1, spec: SceneSpec = SPEC) -> Scene:
    """Two pictures that have nothing to do with each other."""
    draw = torch.Generator().manual_seed(number)
    a, b = (torch.rand(n, c, *spec.size, generator=draw) * 2 - 1 for c in (spec.image_channels, spec.photo_channels))
    return Scene(Condition(image=a), b)


def picture_of(one: Scene) -> tuple[Tensor, Tensor]:
    assert one.condition.image is not None and one.photo is not None
    return one.condition.image, one.photo


def start(
    recipe: CycleGAN = SMALL,
    spec: SceneSpec = SPEC,
    start_from: Path | None = None,
    precision: Literal["no", "bf16"] = "no",
    audible: bool = False,
) -> CycleGANTraining:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    run = Run(Accelerator(cpu=True, mixed_precision=precision), spec, 10, 1, 0, start_from)
    training = recipe.start(run)
    for network in (*training.published_generators.values(), *training.judging.values()) if audible else ():
        loud(network)  # features of size 1, so that nothing is near only because it is small
    return training


def steps(training: CycleGANTraining, span: range, apart: int = 5) -> list[dict[str, float]]:
    """As the loop takes them: each seeds torch's generator."""
    found = []
    for n in span:
        torch.manual_seed(n)
        losses = training.step(scene(n), apart * n)
        found.append({name: value.item() for name, value in losses.items()})
    return found


# --- the networks ----------------------------------------------------------------------------------------------------


def test_counts_are_the_specifications():
    """Section 3: two generators and two discriminators of three channels."""
    training = start(CycleGAN(), replace(SPEC, size=(256, 256)))
    counts = [
        sum(p.numel() for p in network.parameters())
        for network in (*training.published_generators.values(), *training.judging.values())
    ]
    assert counts == [11_378_179, 11_378_179, 2_764_737, 2_764_737] and sum(counts) == 28_285_832
    learned = [
        sum(p.numel() for group in adam.param_groups for p in group["params"])
        for adam in (training.generators_adam, training.judges_adam)
    ]
    assert learned == [2 * 11_378_179, 2 * 2_764_737]
    groups = [*training.generators_adam.param_groups, *training.judges_adam.param_groups]
    assert all(group["betas"] == (0.5, 0.999) and group["lr"] == 2e-4 for group in groups)


def test_first_weights_are_small_and_normal():
    training = start(replace(SMALL, width=32, discriminator_width=32))
    for network in (*training.published_generators.values(), *training.judging.values()):
        weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
        assert weights.std().item() == pytest.approx(0.02, rel=0.02) and abs(weights.mean()) < 1e-3


def test_each_network_is_of_its_own_direction():
    """Grey in one collection, colours of 16 bits in the other: there is no identity term then."""
    spec = replace(SPEC, image_channels=1, photo_bits=16)
    training = start(replace(SMALL, identity=0.0), spec)
    there, back = training.published().values()
    assert list(training.published()) == ["a_to_b", "b_to_a"]
    assert (there.spec, back.spec) == (spec, SceneSpec((), (16, 24), False, 3, 16, 1, 8))
    assert [d.convs[0].in_channels for d in training.judging.values()] == [1, 3]
    losses = training.step(scene(spec=spec, n=2), 0)
    assert set(losses) == {"loss"} | {f"{word}_{s}" for word in ("adversarial", "cycle", "judges") for s in "ab"}
    a, b = picture_of(scene(1, spec=spec))
    assert there.sample(a).shape == (1, 3, 16, 24) and back.sample(b).shape == (1, 1, 16, 24)


def test_channels_that_differ_need_an_identity_of_0():
    with pytest.raises(UserError, match=r"--identity 0\.5: pictures of A have 1 channels, those of B 3.*--identity 0"):
        start(spec=replace(SPEC, image_channels=1))


def test_scenes_as_each_network_meets_them():
    training, one = start(), scene()
    a, b = picture_of(one)
    there, back = (training.scene_for(name, one) for name in training.published())
    assert there.condition.image is a and back.condition.image is b
    assert there.photo is None and back.photo is None, "what was photographed elsewhere is no answer"


# --- the step --------------------------------------------------------------------------------------------------------


def plain_discriminator(network: PatchDiscriminator) -> nn.Sequential:
    """The same in plain modules, with copies of its weights."""
    found: list[nn.Module] = []
    for n, conv in enumerate(network.convs):
        found += [copy.deepcopy(conv), *([nn.InstanceNorm2d(conv.out_channels)] if n else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*found, copy.deepcopy(network.to_logits))


def plain_step(recipe: CycleGAN, networks: list[nn.Sequential], a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The paper's step as one sum for the generators, then one for the discriminators; without a pool.

    An augmentation is drawn anew for whatever a discriminator is shown.
    """
    there, back, *judges = networks
    judge_a, judge_b = (
        lambda picture, judge=judge: judge(augmented(picture, recipe.augment, picture.shape[1], None))
        for judge in judges
    )
    adams = [
        torch.optim.Adam([*x.parameters(), *y.parameters()], lr=2e-4, betas=(0.5, 0.999))
        for x, y in ((there, back), judges)
    ]
    fake_b, fake_a = there(a), back(b)
    found = {
        "adversarial_b": generator_loss(recipe.game, judge_b(fake_b)),
        "adversarial_a": generator_loss(recipe.game, judge_a(fake_a)),
        "cycle_a": (back(fake_b) - a).abs().mean(),
        "cycle_b": (there(fake_a) - b).abs().mean(),
    }
    loss = found["adversarial_a"] + found["adversarial_b"]
    loss = loss + recipe.lambda_a * found["cycle_a"] + recipe.lambda_b * found["cycle_b"]
    if recipe.identity:
        found |= {"identity_a": (back(a) - a).abs().mean(), "identity_b": (there(b) - b).abs().mean()}
        share = recipe.lambda_a * found["identity_a"] + recipe.lambda_b * found["identity_b"]
        loss = loss + recipe.identity * share
    loss.backward()
    adams[0].step()
    adams[1].zero_grad()
    for side, judge, real, fake in (("a", judge_a, a, fake_a), ("b", judge_b, b, fake_b)):
        found[f"judges_{side}"] = 0.5 * discriminator_loss(recipe.game, judge(real), judge(fake.detach()))
    (found["judges_a"] + found["judges_b"]).backward()
    adams[1].step()
    return {name: value.detach() for name, value in {"loss": loss, **found}.items()}


@pytest.mark.parametrize(("average", "augment"), [(0.0, ()), (3.0, ALL_OF_IT)])
@pytest.mark.parametrize("identity", [0.0, 0.5])
@pytest.mark.parametrize("game", ["lsgan", "vanilla", "hinge"])
def test_a_step_is_the_papers(game, identity, average, augment):
    """Every loss, every gradient and every weight after it, against plain modules and one sum."""
    recipe = replace(SMALL, game=game, identity=identity, lambda_a=7.0, lambda_b=3.0, pool_size=0)
    recipe = replace(recipe, average=average, augment=augment)
    training = start(recipe, audible=True)
    ours = [*training.published_generators.values(), *training.judging.values()]
    plain = [plain_generator(g) for g in training.published_generators.values()]
    plain += [plain_discriminator(d) for d in training.judging.values()]
    one = scene(n=2)
    torch.manual_seed(1)
    expected = plain_step(recipe, plain, *picture_of(one))
    torch.manual_seed(1)
    found = training.step(one, 0)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for a, b in zip(ours, plain, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert p.grad is not None and q.grad is not None
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-4 * float(q.grad.abs().max()) + 1e-6)
            known = q.grad.abs() > 1e-3 * q.grad.abs().max() + 1e-5  # of less, Adam follows the rounding
            torch.testing.assert_close(p[known], q[known], rtol=1e-4, atol=2e-6)
            assert float((p - q).detach().abs().max()) <= 2.1 * 2e-4, (
                "Adam's first step is of the rate at most, each way"
            )


def test_the_four_lsgan_figures():
    """Where every logit is 0.5, a game gives 0.25 to who paints it and, halved, 0.25 to who judges (check 10.4)."""
    training = start()
    for judge in training.judging.values():
        nn.init.zeros_(judge.to_logits.weight)
        nn.init.constant_(judge.to_logits.bias, 0.5)
    losses = training.step(scene(), 0)
    names = ("adversarial_a", "adversarial_b", "judges_a", "judges_b")
    assert [losses[name].item() for name in names] == pytest.approx([0.25] * 4)


def test_generators_learn_first_and_nobody_learns_with_another():
    """Check 10.5. Discriminators have no gradients when generators step, and leave those of the generators alone."""
    training, seen = start(audible=True), dict[str, tuple[list[list[Any]], list[list[Any]]]]()
    for name in ("generators_adam", "judges_adam"):
        adam = getattr(training, name)

        def watched(name: str = name, take: Callable[[], object] = adam.step) -> None:
            both = (training.published_generators, training.judging)
            seen[name] = tuple([gradients(n) for n in networks.values()] for networks in both)
            take()

        adam.step = watched
    training.step(scene(n=2), 0)
    assert list(seen) == ["generators_adam", "judges_adam"]
    painters, critics = seen["generators_adam"]
    assert all(g is None for one in critics for g in one)
    assert all(g is not None and g.isfinite().all() for one in painters for g in one)
    assert all(g.abs().sum() > 0 for one in painters for g in one if g.ndim == 4), "every kernel learns"
    after, critics = seen["judges_adam"]
    assert all(torch.equal(a, b) for x, y in zip(painters, after, strict=True) for a, b in zip(x, y, strict=True))
    assert all(g.abs().sum() > 0 for one in critics for g in one if g.ndim == 4)


@pytest.mark.parametrize("identity", [0.0, 0.5])
def test_each_side_computes_only_what_it_uses(identity):
    """Two passes of each generator, and one for its identity; three of each discriminator, one of them frozen."""
    training, looks = start(replace(SMALL, identity=identity)), list[tuple[str, bool]]()
    for kind, networks in (("paints", training.generators), ("judges", training.judges)):
        for side, network in networks.items():
            name = f"{kind} {side}"
            network.register_forward_hook(
                lambda m, i, o, name=name: looks.append((name, next(m.parameters()).requires_grad))
            )
    training.step(scene(), 0)
    for side in "ab":
        assert looks.count((f"paints {side}", True)) == (3 if identity else 2)
        assert (looks.count((f"judges {side}", True)), looks.count((f"judges {side}", False))) == (2, 1)
    assert len(looks) == (12 if identity else 10)


class Held:
    """What torch keeps for gradients, counted for as long as it is kept."""

    now = most = 0

    def __init__(self, tensor: Tensor):
        self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
        Held.now += self.bytes
        Held.most = max(Held.most, Held.now)

    def __del__(self) -> None:
        Held.now -= self.bytes


def most_kept(run: Callable[[], object]) -> int:
    Held.now = Held.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        run()
    return Held.most


def test_parts_need_their_room_one_by_one():
    """One cycle at a time, where a sum would keep two and both identities; checkpointing leaves less again."""
    recipe, one, kept = replace(SMALL, blocks=4), scene(), []
    training = start(recipe)
    plain = [plain_generator(g) for g in training.published_generators.values()]
    plain += [plain_discriminator(d) for d in training.judging.values()]
    kept.append(most_kept(lambda: plain_step(recipe, plain, *picture_of(one))))
    results = []
    for checkpointing in (False, True):
        training = start(replace(recipe, checkpointing=checkpointing))
        kept.append(most_kept(lambda training=training: training.step(one, 0)))
        results.append([p.detach().clone() for g in training.published_generators.values() for p in g.parameters()])
    assert kept[1] < 0.5 * kept[0] and kept[2] < 0.7 * kept[1]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_pictures_are_jittered_apart(monkeypatch):
    training, shown = start(replace(SMALL, jitter=0.5)), list[Scene]()

    def watched(one: Scene, jitter: float, together: bool = True) -> Scene:
        shown.append(jittered(one, jitter, together))
        return shown[-1]

    monkeypatch.setattr(cyclegan, "jittered", watched)
    a, _ = picture_of(scene())
    torch.manual_seed(1)
    training.step(Scene(Condition(image=a), a), 0)
    moved = picture_of(shown[0])
    assert moved[0].shape == a.shape and not torch.equal(*moved) and not torch.equal(moved[0], a)


def test_the_rate_follows_photographs_seen():
    training, rates, spans = start(replace(SMALL, epochs=2, decay_epochs=3)), [], (0, 19, 20, 39, 40, 49, 500)
    for seen in spans:
        training.step(scene(), seen)
        rates.append({g["lr"] for a in (training.generators_adam, training.judges_adam) for g in a.param_groups})
    assert rates == [{2e-4 * linear_decay(seen, 10, 2, 3)} for seen in spans]
    assert rates[0] == {2e-4} and rates[-1] == {5e-5}
    shares = [linear_decay(epoch - 1, 1, CycleGAN.epochs, CycleGAN.decay_epochs) for epoch in (100, 101, 150, 200)]
    assert shares == pytest.approx([1, 0.990099, 0.504950, 0.009901], abs=5e-7)


def test_bf16_is_another_rounding_of_the_same_step():
    found = []
    for precision in ("no", "bf16"):
        training = start(precision=precision, audible=True)
        found.append(steps(training, range(1))[0])
        assert all(p.dtype == torch.float32 for g in training.published().values() for p in g.state_dict().values())
    assert found[0] != found[1]
    assert all(found[0][k] == pytest.approx(found[1][k], rel=0.05) for k in found[0])


# --- averages, augmentation and diagnostics ---------------------------------------------------------------------------


def test_the_averages_are_published_and_what_learns_is_as_without():
    """The slow way: the weights of every step, weighed at the end."""
    averaging, plain = start(replace(SMALL, average=3.0)), start()
    kept = []
    for n in range(7):
        kept.append({name: copy.deepcopy(g.state_dict()) for name, g in plain.published_generators.items()})
        for training in (averaging, plain):
            torch.manual_seed(n)
            training.step(scene(n), 50 * n)
    assert list(averaging.published()) == ["a_to_b", "b_to_a"] and plain.published() == plain.published_generators
    for name, ours in averaging.published().items():
        learning = averaging.published_generators[name]
        assert ours is not learning and not any(p.requires_grad for p in ours.parameters())
        assert all(p.requires_grad for p in learning.parameters())
        last = plain.published_generators[name].state_dict()
        assert all(torch.equal(weight, last[key]) for key, weight in learning.state_dict().items()), "the same game"
        for key, expected in kept[0][name].items():
            for n in range(7):
                left = 2 ** (-1 / min(3.0, 0.05 * (50 * n + 1)))
                newer = kept[n + 1][name][key] if n < 6 else last[key]
                expected = left * expected + (1 - left) * newer
            torch.testing.assert_close(ours.state_dict()[key], expected, rtol=1e-5, atol=1e-7)
            assert last[key].ndim < 4 or not torch.equal(last[key], expected)


def test_averages_move_after_everybody_has_learned():
    training, learned = start(replace(SMALL, average=5.0)), list[bool]()
    first = copy.deepcopy(training.averages["a_to_b"].state_dict())
    take = training.judges_adam.step

    def watched() -> None:
        take()
        learned.append(all(torch.equal(w, first[k]) for k, w in training.averages["a_to_b"].state_dict().items()))

    training.judges_adam.step = watched
    training.step(scene(), 0)
    assert learned == [True]
    assert not all(torch.equal(w, first[k]) for k, w in training.averages["a_to_b"].state_dict().items())


def test_the_discriminators_are_shown_augmented_pictures_alone():
    """In all three places, each drawn anew; pools keep paintings as they were, generators are asked as ever.

    One collection is grey, so that each side is augmented by its own channels.
    """
    spec = replace(SPEC, image_channels=1)
    training, one = start(replace(SMALL, augment=("translation", "cutout"), identity=0.0), spec), scene(n=2, spec=spec)
    shown: dict[str, list[Tensor]] = {"a": [], "b": []}
    asked = list[Tensor]()
    painted: dict[str, list[Tensor]] = {"a": [], "b": []}
    for side, network in training.judges.items():
        network.register_forward_pre_hook(lambda m, i, side=side: shown[side].append(i[0]))
    for side, network in training.generators.items():
        network.register_forward_pre_hook(lambda m, i: asked.append(i[0].image))
        other = cyclegan.OTHER[side]
        network.register_forward_hook(lambda m, i, o, other=other: painted[other].append(o.detach()))
    training.step(one, 0)
    real = dict(zip("ab", picture_of(one), strict=True))
    fakes = {"b": painted["b"][0], "a": painted["a"][1]}  # B is painted first there, A first on its way back
    assert asked[0] is real["a"] and asked[2] is real["b"], "the cycles begin with pictures as they are"
    assert all((picture == 0).all(1).sum() == 0 for picture in asked)
    for side in "ab":
        adversarial, of_real, of_fake = shown[side]
        holes = [(picture == 0).all(1) for picture in shown[side]]
        assert all(0.05 < hole.float().mean() < 0.8 for hole in holes)
        assert all(not torch.equal(holes[i], holes[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
        assert of_real.shape == real[side].shape and of_fake.shape == adversarial.shape == real[side].shape
        for picture, hole, whole in ((of_real, holes[1], real[side]), (of_fake, holes[2], fakes[side])):
            values = set(whole.flatten().tolist())
            assert all(value in values for value in picture.movedim(1, -1)[~hole].flatten().tolist()), "only moved"
        assert torch.equal(torch.stack(training.pools[side].kept), fakes[side])


def test_grey_collections_are_recoloured():
    spec = replace(SPEC, image_channels=1)
    training = start(replace(SMALL, augment=ALL_OF_IT, identity=0.0), spec)
    assert all(value.isfinite() for value in training.step(scene(n=2, spec=spec), 0).values())


def test_every_fifth_step_is_diagnosed_as_the_mean_of_both_sides():
    """By hand, from what both discriminators said and both generators painted; A is grey."""
    spec = replace(SPEC, image_channels=1)
    training = start(replace(SMALL, identity=0.0, augment=("color",), pool_size=1), spec, audible=True)
    names = [
        "accuracy/photographs", "accuracy/paintings", "gradient/generator", "gradient/discriminator",
        "saturated/paintings", "checkerboard/paintings", "saturated/photographs", "checkerboard/photographs",
    ]  # fmt: skip
    logits: dict[str, list[Tensor]] = {"a": [], "b": []}
    painted: dict[str, list[Tensor]] = {"a": [], "b": []}
    for side in ("a", "b"):
        other = cyclegan.OTHER[side]
        training.judges[side].register_forward_hook(lambda m, i, o, side=side: logits[side].append(o.detach()))
        training.generators[other].register_forward_hook(lambda m, i, o, side=side: painted[side].append(o.detach()))
    one, found = scene(), dict[str, Tensor]()
    for n in range(10):
        one = scene(n, n=2, spec=spec)
        for seen_so_far in (logits, painted):
            for values in seen_so_far.values():
                values.clear()
        found = training.step(one, n)
        assert [name for name in found if is_diagnostic(name)] == (names if n in (4, 9) else [])
    real = dict(zip("ab", picture_of(one), strict=True))
    fake = {"b": painted["b"][0], "a": painted["a"][1]}  # B is painted first there, A first on its way back
    assert all(fake[side].shape == real[side].shape for side in "ab")
    everywhere = {
        "accuracy/photographs": [(logits[s][1] > 0.5).float().mean() for s in "ab"],
        "accuracy/paintings": [(logits[s][2] < 0.5).float().mean() for s in "ab"],
        "gradient/generator": [
            sum(p.grad.square().sum() for p in g.parameters() if p.grad is not None) ** 0.5
            for g in training.published_generators.values()
        ],
        "gradient/discriminator": [
            sum(p.grad.square().sum() for p in d.parameters() if p.grad is not None) ** 0.5
            for d in training.judging.values()
        ],
        "saturated/paintings": [(fake[s].abs() > 0.99).float().mean() for s in "ab"],
        "saturated/photographs": [(real[s].abs() > 0.99).float().mean() for s in "ab"],
        "checkerboard/paintings": [checkerboard(fake[s]) for s in "ab"],
        "checkerboard/photographs": [checkerboard(real[s]) for s in "ab"],
    }
    assert everywhere.keys() == set(names)
    for name, (of_a, of_b) in everywhere.items():
        assert found[name].item() == pytest.approx((float(of_a) + float(of_b)) / 2, rel=1e-4), name
        assert found[name].ndim == 0 and float(of_a) != float(of_b), "so that neither stands for both"


# --- the pool --------------------------------------------------------------------------------------------------------


def numbered(*numbers: int) -> Tensor:
    """Pictures that are known by their one value."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2).clone()


def numbers(pictures: Tensor | list[Tensor]) -> list[int]:
    return [int(p[0, 0, 0]) for p in pictures]


def fresh(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_pool_of_0_gives_back_what_is_new():
    pool, pictures = PicturePool(0), numbered(1, 2, 3)
    assert torch.equal(pool.exchanged(pictures, fresh()), pictures) and not pool.kept


def test_a_pool_fills_up_and_then_half_of_what_it_gives_is_old():
    """Check 10.6, with the paper's size of 50."""
    pool, draws = PicturePool(CycleGAN.pool_size), fresh()
    for n in range(50):
        assert numbers(pool.exchanged(numbered(n), draws)) == [n]
    assert numbers(pool.kept) == list(range(50))
    old, places = 0, set[int]()
    for n in range(50, 2050):
        before = numbers(pool.kept)
        (shown,) = numbers(pool.exchanged(numbered(n), draws))
        if shown == n:
            assert numbers(pool.kept) == before
        else:
            place = before.index(shown)
            assert numbers(pool.kept) == [*before[:place], n, *before[place + 1 :]]
            old, places = old + 1, places | {place}
    assert old / 2000 == pytest.approx(0.5, abs=0.03) and places == set(range(50))


def test_a_batch_is_its_pictures_one_by_one():
    together, apart = PicturePool(3), PicturePool(3)
    draws, same = fresh(4), fresh(4)
    for n in range(0, 40, 4):
        shown = numbers(together.exchanged(numbered(*range(n, n + 4)), draws))
        assert shown == [numbers(apart.exchanged(numbered(m), same))[0] for m in range(n, n + 4)]


def test_what_is_kept_is_a_copy_without_a_graph():
    pool, draws = PicturePool(2), fresh()
    weight = torch.ones(1, requires_grad=True)
    for n in range(20):
        pictures = numbered(n) * weight
        shown = pool.exchanged(pictures, draws)
        assert not shown.requires_grad and all(not p.requires_grad and p.grad_fn is None for p in pool.kept)
        before = numbers(pool.kept)
        pictures.detach().fill_(-1)
        shown.fill_(-1)
        assert numbers(pool.kept) == before


def test_the_discriminators_are_shown_what_the_pools_give():
    training = start(replace(SMALL, pool_size=2))
    shown: dict[str, list[Tensor]] = {"a": [], "b": []}
    for side, network in training.judges.items():
        network.register_forward_pre_hook(
            lambda m, i, side=side: shown[side].append(i[0]) if next(m.parameters()).requires_grad else None
        )
    past: dict[str, list[Tensor]] = {"a": [], "b": []}
    old = 0
    for n in range(12):
        one = scene(n)
        new = {"b": one.condition, "a": Condition(image=one.photo)}
        with torch.no_grad():
            painters = {"b": training.published_generators["a_to_b"], "a": training.published_generators["b_to_a"]}
            new = {side: painters[side](asked) for side, asked in new.items()}
        training.step(one, n)
        for side in "ab":
            real, fake = shown[side][-2:]
            assert torch.equal(real, picture_of(one)["ab".index(side)]) and not fake.requires_grad
            known = [any(torch.equal(fake, p) for p in past[side]), torch.allclose(fake, new[side], atol=1e-6)]
            assert sum(known) == 1, "a new painting, or one of the past"
            old += known[0]
            past[side].append(fake if known[1] else new[side])
            assert all(not p.requires_grad for p in training.pools[side].kept)
    assert 4 <= old <= 18


def test_pools_are_drawn_from_alike_whatever_torchs_generator_is_at():
    one, other = start(replace(SMALL, pool_size=1)), start(replace(SMALL, pool_size=1))
    for n in range(6):
        for training, seed in ((one, n), (other, 100 + n)):
            torch.manual_seed(seed)
            training.step(scene(n), n)
    assert all(torch.equal(one.pools[s].kept[0], other.pools[s].kept[0]) for s in one.pools)


# --- learning --------------------------------------------------------------------------------------------------------

HUES = {"a": torch.tensor([1.0, 0.35, 0.1]), "b": torch.tensor([0.1, 0.35, 1.0])}


def hued(side: str, number: int, n: int = 2) -> Tensor:
    """Squares of a hue, of any brightness; those of the other side are of other scenes."""
    draw = torch.Generator().manual_seed(2 * number + (side == "b"))
    light = torch.rand(n, 1, 4, 4, generator=draw).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return 2 * light * HUES[side][:, None, None] - 1


def test_two_hues_are_learned_without_pairs():
    """Check 10.14d: pictures of A take the hue of B and keep their squares, those of B stay, and cycles close."""
    recipe = replace(SMALL, width=8, blocks=1, discriminator_width=8, pool_size=10, learning_rate=2e-3)
    training = start(recipe, replace(SPEC, size=(16, 16)))
    a, b, losses = hued("a", 9999, 8), hued("b", 9999, 8), []
    for n in range(120):
        losses.append(training.step(Scene(Condition(image=hued("a", n)), hued("b", n)), 2 * n))
    there, back = training.published().values()
    painted, same = there.sample(a), there.sample(b)
    hue_apart = (a - a.flip(1)).abs().mean()  # of a picture from itself in the other hue
    assert (painted - a.flip(1)).abs().mean() < 0.3 * hue_apart
    assert (same - b).abs().mean() < 0.3 * hue_apart < (painted - a).abs().mean()
    assert (back.sample(painted) - a).abs().mean() < 0.3 * hue_apart
    for side in "ab":
        cycles = [one[f"cycle_{side}"].item() for one in losses]
        assert sum(cycles[-10:]) < 0.4 * sum(cycles[:10])


# --- stopping, going on, starting from -------------------------------------------------------------------------------


def test_it_goes_on_to_the_last_bit_with_full_pools():
    recipe = replace(SMALL, jitter=0.2, pool_size=2, epochs=1, decay_epochs=1, average=9.0, augment=ALL_OF_IT)
    through = start(recipe)
    log = steps(through, range(8))
    parts = start(recipe)
    steps(parts, range(4))
    assert [len(pool.kept) for pool in parts.pools.values()] == [2, 2]
    kept = io.BytesIO()
    torch.save(parts.state_dict(), kept)
    again = start(recipe)
    steps(again, range(1))  # whatever it held is overwritten
    again.load_state_dict(torch.load(io.BytesIO(kept.getvalue()), weights_only=True))
    assert steps(again, range(4, 8)) == log[4:]
    for name in ("a_to_b", "b_to_a", "judges_a", "judges_b", "average_a_to_b", "average_b_to_a"):
        ours, theirs = (training.state_dict()[name] for training in (through, again))
        assert isinstance(ours, dict) and isinstance(theirs, dict)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    for side, pool in through.pools.items():
        assert all(torch.equal(p, q) for p, q in zip(pool.kept, again.pools[side].kept, strict=True))
    forgetful = start(recipe)
    state = torch.load(io.BytesIO(kept.getvalue()), weights_only=True)
    forgetful.load_state_dict({**state, "pool_a": {"kept": []}, "pool_b": {"kept": []}})
    assert steps(forgetful, range(4, 8)) != log[4:], "pools matter"
    state = torch.load(io.BytesIO(kept.getvalue()), weights_only=True)
    averages = {f"average_{name}": state[name] for name in ("a_to_b", "b_to_a")}
    forgetful.load_state_dict({**state, **averages})
    assert steps(forgetful, range(4, 8)) == log[4:], "what learns does not know of averages"
    for name, network in forgetful.published().items():
        ours = through.published()[name].state_dict()
        assert not all(torch.equal(tensor, ours[key]) for key, tensor in network.state_dict().items())


def test_a_run_from_before_there_were_averages_goes_on(tmp_path):
    """With the new fields at their defaults, to the last bit; with others it is refused."""
    data = ToyUnpaired(size=(16, 24), count=4)
    train(SMALL, data, tmp_path / "through", plan_of(3, 1))
    train(SMALL, data, tmp_path / "parts", plan_of(2, 1))
    settings = tmp_path / "parts" / "run.json"
    older = {k: v for k, v in json.loads(settings.read_text()).items() if k not in ("average", "augment")}
    assert len(older) == len(json.loads(settings.read_text())) - 2
    settings.write_text(json.dumps(older))
    for changes in ({"average": 9.0}, {"augment": ("cutout",)}):
        with pytest.raises(UserError, match=f"this run was started with {next(iter(changes))}"):
            train(replace(SMALL, **changes), data, tmp_path / "parts", plan_of(3, 1))
    train(SMALL, data, tmp_path / "parts", plan_of(3, 1))
    for name in ("log.jsonl", "a_to_b/model.safetensors", "b_to_a/model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "through" / name).read_bytes()


SEVERAL = """
import sys
import torch
torch.set_num_threads(1)
from test_cyclegan import SMALL, plan_of
from toy_scenes import ToyUnpaired
from dataclasses import replace
from photogram.training import train

for out, steps in ((sys.argv[1], (6,)), (sys.argv[2], (3, 6))):
    for until in steps:
        train(replace(SMALL, pool_size=3), ToyUnpaired(size=(16, 24), count=24), out, plan_of(until, 1))
"""


def plan_of(until: int, batch_size: int) -> Plan:
    return Plan(steps=until, batch_size=batch_size, save_every=10, workers=0, precision="fp32", quiet=True)


def test_two_processes_share_pools_and_go_on_to_the_last_bit(tmp_path):
    """And in every loss they do what one process with twice the batch does, up to rounding.

    So in diagnostics, but for the checkerboard, which is a ratio of energies of all pictures of a batch.
    """
    (tmp_path / "several.py").write_text(SEVERAL)
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    done = run_python(
        "import sys; from runpy import run_module; sys.argv = sys.argv[1:]; run_module(sys.argv[0], None, '__main__')",
        *launch,
        *(str(tmp_path / name) for name in ("several.py", "through", "parts")),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert outcome(tmp_path / "through") == outcome(tmp_path / "parts")
    train(replace(SMALL, pool_size=3), ToyUnpaired(size=(16, 24), count=24), tmp_path / "one", plan_of(6, 2))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "through")]
    for lines in zip(*logs, strict=True):
        one, two = ({k: v for k, v in json.loads(line).items() if "checkerboard" not in k} for line in lines)
        assert one == pytest.approx(two, rel=1e-3)
    assert "gradient/generator" in json.loads(logs[0][4])


def test_it_starts_from_a_run(tmp_path):
    first = start()
    steps(first, range(2))
    for name, network in first.published().items():
        network.save_pretrained(tmp_path / name)
    second = start(start_from=tmp_path)
    for name, network in first.published().items():
        theirs = second.published()[name].state_dict()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in network.state_dict().items())
    start(replace(SMALL, identity=0.0), start_from=tmp_path)  # of which no weight depends
    with pytest.raises(UserError, match=r"a_to_b: has width 4, not 8"):
        start(replace(SMALL, width=8), start_from=tmp_path)
    grey = replace(SPEC, image_channels=1)
    with pytest.raises(UserError, match=r"a_to_b: was trained with image_channels 3, but the data has 1"):
        start(replace(SMALL, identity=0.0), grey, start_from=tmp_path)
    with pytest.raises(UserError, match=r"b_to_a/a_to_b: no such folder; give the folder of a run"):
        start(start_from=tmp_path / "b_to_a")


def test_a_run_publishes_two_networks_and_a_sheet_of_each(tmp_path):
    data = ToyUnpaired(size=(16, 24), count=4)
    train(SMALL, data, tmp_path / "run", plan_of(1, 2), data)
    sheets = sorted(path.name for path in (tmp_path / "run" / "samples").glob("*.png"))
    assert sheets == ["a_to_b-step-00000001.png", "b_to_a-step-00000001.png"]
    networks = [load(tmp_path / "run" / name) for name in ("a_to_b", "b_to_a")]
    assert (
        "- a_to_b: paints pictures of A, which are the data's inputs" in (tmp_path / "run/b_to_a/README.md").read_text()
    )
    with pytest.raises(UserError, match=r"run: holds several published networks; give one: .*a_to_b, .*b_to_a"):
        load(tmp_path / "run")
    a, b = picture_of(data[0, 0])
    assert [n.sample(x).shape for n, x in zip(networks, (a, b), strict=True)] == [(1, 3, 16, 24)] * 2
    assert not torch.equal(networks[0].sample(a), networks[1].sample(a))


def test_it_can_be_planned():
    """Dry runs imagine pictures of both collections."""
    recipe = replace(SMALL, identity=0.0)
    need = dry_run(Asked(recipe, replace(SPEC, image_channels=1), photographs=8, batch_size=2, precision="fp32"))
    assert need is not None and set(need.peaks) == {"start", "steps", "saving"} and need.seconds > 0


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "--width 0: must be 1 or more"),
        ({"blocks": -1}, "--blocks -1: must be 0 or more"),
        ({"patch": 64}, "--patch 64: must be one of 1, 16, 34, 70, 142, 286"),
        ({"discriminator_width": 0}, "--discriminator-width 0: must be 1 or more"),
        ({"game": "wgan"}, "--game wgan: must be one of vanilla, lsgan, hinge"),
        ({"game": "wgangp"}, "--game wgangp: must be one of vanilla, lsgan, hinge"),
        ({"lambda_a": -1.0}, "--lambda-a -1.0: must be 0 or more"),
        ({"lambda_b": float("nan")}, "--lambda-b nan: must be 0 or more, and finite"),
        ({"identity": float("inf")}, "--identity inf: must be 0 or more, and finite"),
        ({"pool_size": -1}, "--pool-size -1: must be 0 or more"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0: must be above 0"),
        ({"beta1": 1.0}, "--beta1 1.0: must be 0 or more, and below 1"),
        ({"decay_epochs": -1}, "--decay-epochs -1: must be 0 or more"),
        ({"jitter": 1.5}, "--jitter 1.5: must be 0 or more, and below 1"),
        ({"average": -1.0}, "--average -1.0: must be 0 or more, and finite"),
        ({"average": float("inf")}, "--average inf: must be 0 or more, and finite"),
        ({"augment": ("colour",)}, "--augment colour: must be some of color, translation, cutout, each once"),
        ({"augment": ("color", "color")}, "--augment color color: must be some of color, translation, cutout, each"),
    ],
)
def test_values_that_no_training_can_have_are_refused(changes, words):
    recipe = copy.copy(SMALL)
    for name, value in changes.items():
        object.__setattr__(recipe, name, value)  # past the check of types, which only tests have
    with pytest.raises(UserError) as e:
        recipe.size_multiple()
    assert words in str(e.value) and "\n" not in str(e.value)


def test_data_that_is_no_two_collections_is_refused(tmp_path):
    for spec in (Toy(size=(16, 24), count=2).spec, SceneSpec((), (16, 24))):
        with pytest.raises(UserError, match="learns from two collections of pictures; this data has layouts, or"):
            start(spec=spec)
    with pytest.raises(UserError, match=r"--size 16 24: a discriminator of --patch 70 needs 24 pixels a side"):
        start(replace(SMALL, patch=70))
    with pytest.raises(UserError, match=r"--size 4 8: the residual generator needs 8 pixels a side"):
        start(replace(SMALL, patch=1), SceneSpec((), (4, 8), image_channels=3))
    with pytest.raises(UserError, match=r"--size 18 24: CycleGAN .* multiples of 4; the nearest possible heights are"):
        train(SMALL, ToyUnpaired(size=(18, 24), count=2), tmp_path, Plan(steps=1, quiet=True))
