"""Several paintings of one layout: checks 8 to 10, the loss against its slow twin, the choice, the mix; and the stages
of section 5.1 with what they save in memory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_crn import Blur, cascade, random_layout, randomise_norms, spec_of
from test_crn_training import RECIPE, run_of, scene
from torch import Tensor, nn

from photogram.errors import UserError
from photogram.nn import perceptual
from photogram.nn.perceptual import PerceptualLoss, best_by_class, load_features, masked_absolute_difference
from photogram.recipe import Run
from photogram.recipes.crn import CRN, CascadedRefinementNetwork, Choice, assembled, blurred, hand_over
from photogram.scene import Layout, SceneSpec, one_hot


@pytest.fixture
def blur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "load_trunk", lambda perceptual: Blur())


def many(k: int = 3, spec: SceneSpec | None = None, widths: tuple[int, ...] = (6, 5, 4)) -> CascadedRefinementNetwork:
    torch.manual_seed(0)
    network = CascadedRefinementNetwork(spec=spec or spec_of(4), widths=widths, candidates=k)
    randomise_norms(network)
    return network


# Checks 1 and 2 for nine paintings.


def test_check_2_nine_paintings_have_the_released_models_parameters():
    with torch.device("meta"):
        network = CascadedRefinementNetwork(spec=spec_of(20, (256, 512)), widths=(1024,) * 5 + (512,) * 2, candidates=9)
    assert sum(p.numel() for p in network.parameters()) == 97_875_483


def test_check_8_channels_are_by_colour_then_by_painting():
    network = many(9)
    network.to_rgb.weight.data.zero_()
    assert network.to_rgb.bias is not None
    network.to_rgb.bias.data.copy_(torch.arange(27.0))
    painted = network(random_layout((8, 16)))
    assert painted.shape == (1, 9, 3, 8, 16)
    for u in range(9):
        assert painted[0, u, :, 3, 5].tolist() == [u, 9 + u, 18 + u]


# Checks 9 and 10: the loss.


def test_check_9_the_two_pixel_case():
    errors = torch.tensor([[[1.0, 3.0]], [[2.0, 1.0]]])  # of each painting, in each of two pixels
    paintings = errors[None, :, None].requires_grad_()  # n k c h w
    photo, masks = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    costs = masked_absolute_difference(paintings, photo, masks)
    assert costs.tolist() == [[[0.5, 1.5], [1.0, 0.5]]]
    assert best_by_class(costs).item() == pytest.approx(1.00075)


def plain_costs(loss: PerceptualLoss, paintings: Tensor, photo: Tensor, layout: Layout, classes: int) -> Tensor:
    """One painting, one class at a time, as the specification writes it."""
    assert loss.trunk is not None
    masks = F.one_hot(layout.classes.long(), classes).permute(0, 3, 1, 2).to(photo)
    terms = []
    pairs = [(127.5 * paintings, 127.5 * photo)]
    features = [list(loss.trunk(paintings[:, u])) for u in range(paintings.shape[1])]
    for level, of_photo in enumerate(loss.trunk(photo)):
        pairs.append((torch.stack([f[level] for f in features], 1), of_photo))
    for a, b in pairs:
        sized = F.adaptive_avg_pool2d(masks, a.shape[-2:])
        rows = []
        for u in range(a.shape[1]):
            apart = (a[:, u] - b).abs().mean(1)
            rows.append(torch.stack([(apart * sized[:, p]).mean((1, 2)) for p in range(classes)], -1))
        terms.append(torch.stack(rows, 1))
    return torch.stack(terms)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_costs_by_class_and_their_gradients_equal_the_plain_ones(k: int, kind: torch.dtype):
    noise = torch.Generator().manual_seed(k)
    loss, layout = PerceptualLoss(Blur()).to(kind), random_layout((12, 20), n=2)
    photo = torch.rand(2, 3, 12, 20, generator=noise, dtype=kind) * 2 - 1
    start = torch.rand(2, k, 3, 12, 20, generator=noise, dtype=kind) * 2 - 1
    weights = torch.rand(3, 2, k, 4, generator=noise, dtype=kind)
    found = []
    for form in (loss.by_class, None):
        paintings = start.clone().requires_grad_()
        if form is None:
            costs = plain_costs(loss, paintings, photo, layout, 4)
        else:
            costs = form(paintings, photo, one_hot(layout.classes, 4).to(kind))
        (weights * costs).sum().backward()
        assert paintings.grad is not None
        found.append((costs.detach(), paintings.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4 if kind is torch.float32 else 1e-11, atol=1e-7)


def test_check_10_one_painting_gives_the_simple_loss():
    loss, layout = PerceptualLoss(Blur()).double(), random_layout((8, 16))
    noise = torch.Generator().manual_seed(0)
    painting, photo = (torch.rand(1, 3, 8, 16, generator=noise, dtype=torch.float64) * 2 - 1 for _ in range(2))
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    costs = loss.by_class(painting[:, None], photo, one_hot(layout.classes, 4).double())
    simple = (weights * loss(painting, photo)).sum()
    torch.testing.assert_close(best_by_class(torch.einsum("t,tnkp->nkp", weights, costs)), simple)


def test_check_10_empty_classes_and_the_order_of_paintings_change_nothing():
    loss, layout = PerceptualLoss(Blur()), random_layout((8, 16))
    noise = torch.Generator().manual_seed(0)
    paintings = torch.rand(1, 4, 3, 8, 16, generator=noise) * 2 - 1
    photo = torch.rand(1, 3, 8, 16, generator=noise) * 2 - 1
    four = loss.by_class(paintings, photo, one_hot(layout.classes, 4)).sum(0)
    seven = loss.by_class(paintings, photo, one_hot(layout.classes, 7)).sum(0)
    turned = loss.by_class(paintings[:, [2, 0, 3, 1]], photo, one_hot(layout.classes, 4)).sum(0)
    assert best_by_class(four).item() == pytest.approx(best_by_class(seven).item(), rel=1e-6)
    assert best_by_class(four).item() == pytest.approx(best_by_class(turned).item(), rel=1e-6)


def test_check_15_a_painting_that_wins_nothing_is_still_moved_a_little():
    costs = torch.tensor([[[1.0, 1.0], [2.0, 3.0], [5.0, 4.0]]], requires_grad=True)
    best_by_class(costs).backward()
    assert costs.grad is not None
    assert costs.grad[0, 0].tolist() == pytest.approx([0.999 + 0.001 / 3] * 2)
    assert costs.grad[0, 1:].flatten().tolist() == pytest.approx([0.001 / 3] * 4)


def test_check_15_projection_rows_of_a_painting_that_wins_nothing_have_a_gradient(blur: None):
    """Of nine, one far brighter than any photograph: it is nearest nowhere, and the mean term alone moves its rows."""
    training = CRN(widths=(6, 5), candidates=9, perceptual="none").start(run_of(spec_of(4)))
    network = training.published_generator
    with torch.no_grad():
        network.to_rgb.bias.view(3, 9)[:, 4] += 40.0  # channels by colour, then by picture
    one, grads = scene(0), []
    paintings = network(one.condition.layout)
    costs = (paintings - one.photo[:, None]).abs().mean((2, 3, 4))  # type: ignore[index]
    assert int(costs.argmax()) == 4
    adam = training.adam.step
    training.adam.step = lambda: grads.append(network.to_rgb.weight.grad.clone())  # type: ignore[union-attr]
    training.step(one, 0)
    training.adam.step = adam
    rows = grads[0].view(3, 9, -1)
    assert (rows[:, 4].abs().sum(-1) > 0).all() and rows.isfinite().all()
    assert rows[:, 4].abs().max() < 0.01 * rows.abs().max()


def test_check_22_what_the_graph_keeps_at_full_width():
    """On no device, so that it takes no memory: bytes for gradients at 256p (1.43 GiB; 2.45 in the specification,
    with a concatenation, enlarged features and norms that are not in place), and what checkpointing leaves at 512p."""
    kept = {}
    for height, checkpointing in ((256, False), (512, False), (512, True)):
        widths = ((1024,) * 5 + (512, 512, 128))[: (height // 4).bit_length()]
        with torch.device("meta"):
            network = CascadedRefinementNetwork(spec=spec_of(20, (height, 2 * height)), widths=widths)
            layout = Layout(torch.zeros(1, height, 2 * height, dtype=torch.uint8))
        network.checkpointing = checkpointing
        saved = Saved(network)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            network(layout)
        kept[height, checkpointing] = saved.total / 2**30
    assert kept[256, False] == pytest.approx(1.43, rel=0.02) and kept[256, False] < 2.45 * 1.15
    assert kept[512, True] < 0.7 * kept[512, False]


def test_nine_paintings_are_learned_and_part_from_each_other(blur: None):
    """One layout, photographs of two kinds: with two candidates the loss falls below what one can reach."""
    reached = {}
    for k in (1, 2):
        torch.manual_seed(0)
        training = CRN(widths=(16, 16), candidates=k, perceptual="none", learning_rate=1e-2).start(run_of(spec_of(4)))
        layout = random_layout((8, 16))
        losses = []
        for step in range(200):
            one = scene(0)
            photo = torch.full_like(one.photo, 0.8 if step % 2 else -0.8)  # type: ignore[arg-type]
            losses.append(training.step(one._replace(photo=photo), step)["loss"].item())
        painted = training.published_generator.sample(layout, 0, Choice(candidates="all"))
        reached[k] = sum(losses[-20:]) / 20
    assert painted.shape == (1, 2, 3, 8, 16)
    assert reached[2] < 0.3 * reached[1]
    means = painted.mean((2, 3, 4))[0]
    assert abs(float(means[0] - means[1])) > 1.0  # one for each kind


# What a person chooses.


def test_one_all_or_a_mix_of_candidates():
    network, layout = many(3), random_layout((8, 16))
    everything = network.sample(layout, 0, Choice(candidates="all"))
    assert everything.shape == (1, 3, 3, 8, 16)
    for u in range(3):
        assert torch.equal(network.sample(layout, 0, Choice(candidates=u)), everything[:, u])
    assert torch.equal(network.sample(layout), everything[:, 0])
    mixed = network.sample(layout, 0, Choice(candidates=0, mix="c1=2, c3=1", feather=0))
    chosen = torch.tensor([0, 2, 0, 1])[layout.classes.long()]
    for u in range(3):
        where = (chosen == u)[:, None].expand(-1, 3, -1, -1)
        assert where.any() and torch.equal(mixed[where], everything[:, u][where])


def plain_assembly(candidates: Tensor, layout: Layout, chosen: list[int], sigma: float) -> Tensor:
    """Pixel by pixel: each candidate weighs as much as its classes do in a Gaussian window."""
    n, k, _, height, width = candidates.shape
    reach = max(1, -int(-3 * sigma // 1))
    result = torch.zeros_like(candidates[:, 0])
    for row in range(height):
        for column in range(width):
            shares = torch.zeros(n, k, dtype=candidates.dtype)
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    y, x = min(max(row + dy, 0), height - 1), min(max(column + dx, 0), width - 1)
                    weight = torch.tensor(-0.5 * (dy * dy + dx * dx) / sigma**2, dtype=torch.float64).exp()
                    for image in range(n):
                        shares[image, chosen[int(layout.classes[image, y, x])]] += weight
            shares /= shares.sum(1, keepdim=True)
            result[:, :, row, column] = torch.einsum("nk,nkc->nc", shares, candidates[:, :, :, row, column])
    return result


def test_seams_are_softened_as_the_plain_form_says():
    noise, layout = torch.Generator().manual_seed(1), random_layout((8, 12), n=2)
    candidates = torch.rand(2, 3, 3, 8, 12, generator=noise, dtype=torch.float64)
    for chosen in ([0, 1, 2, 0], [2, 2, 2, 2]):
        found = assembled(candidates, layout, torch.tensor(chosen), 1.2)
        torch.testing.assert_close(found, plain_assembly(candidates, layout, chosen, 1.2))
    assert torch.equal(found, candidates[:, 2])  # one candidate for all: nothing to soften
    planes = torch.rand(1, 2, 5, 7, generator=noise)
    assert blurred(planes, 0.8).mean().item() == pytest.approx(planes.mean().item(), abs=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Choice(candidates=3), r"--candidates 3: the network paints candidates 0\.\.2"),
        (Choice(candidates=-1), "candidates -1"),
        (Choice(mix="c1=7"), r"--mix c1=7: the network paints candidates 0\.\.2"),
        (Choice(mix="c1"), "--mix 'c1': must be CLASS=NUMBER"),
        (Choice(mix="c1=x"), "--mix 'c1=x': must be CLASS=NUMBER"),
        (Choice(mix="d1=1"), "--mix 'd1': is no class; there is c0"),
        (Choice(candidates="all", mix="c1=1"), "needs one candidate"),
        (Choice(mix="c1=1,c1=2"), "names c1 twice"),
        (Choice(feather=3e6), "--feather 3000000.0: must be 0 or 0.01 to 100 pixels"),
        (Choice(feather=math.nan), "--feather nan"),
        (Choice(feather=-1.0), "--feather -1.0: must be 0 or 0.01 to 100 pixels"),
    ],
)
def test_choices_that_there_are_not(options: Choice, words: str):
    with pytest.raises(UserError, match=words):
        many(3).sample(random_layout((8, 16)), 0, options)


def test_candidates_are_published_and_loaded_and_older_configurations_have_one(tmp_path: Path):
    network, layout = many(3), random_layout((8, 16))
    network.save_pretrained(tmp_path / "three")
    again = CascadedRefinementNetwork.from_pretrained(tmp_path / "three")
    assert again.candidates == 3 and torch.equal(again(layout), network.eval()(layout))
    one = cascade()
    one.save_pretrained(tmp_path / "one")
    config = (tmp_path / "one" / "config.json").read_text()
    (tmp_path / "one" / "config.json").write_text(config.replace(',\n    "candidates": 1', ""))
    assert "candidates" not in (tmp_path / "one" / "config.json").read_text()
    assert CascadedRefinementNetwork.from_pretrained(tmp_path / "one").candidates == 1


# Stages.


def test_nine_candidates_hand_over_all_but_the_projection(tmp_path: Path):
    source = many(9)
    source.save_pretrained(tmp_path)
    for widths, k in (((6, 5, 4), 1), ((6, 5, 4, 3), 1), ((6, 5, 4), 4)):
        torch.manual_seed(5)
        fresh = CascadedRefinementNetwork(spec=spec_of(4), widths=widths, candidates=k)
        torch.manual_seed(5)
        taken = CascadedRefinementNetwork(spec=spec_of(4), widths=widths, candidates=k)
        hand_over(tmp_path, taken)
        for name, tensor in taken.state_dict().items():
            expected = source.state_dict().get(name) if name.startswith("cascade.") else None
            if expected is None or int(name.split(".")[1]) > 2:
                assert torch.equal(tensor, fresh.state_dict()[name]), name
            else:
                assert torch.equal(tensor, expected), name


def test_a_mix_is_the_same_under_autocast():
    candidates, layout = torch.rand(1, 3, 3, 16, 32), random_layout((16, 32))
    chosen = torch.tensor([0, 1, 2, 1])
    plain = assembled(candidates, layout, chosen, 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(assembled(candidates, layout, chosen, 2.0), plain)


def test_check_16_only_the_last_modules_learn_where_that_is_asked_for(blur: None, tmp_path: Path):
    cascade().save_pretrained(tmp_path)
    recipe = replace(RECIPE, widths=(6, 5, 4, 3, 2), train_last=2)
    training = recipe.start(replace(run_of(spec_of(4, (16, 32))), start_from=tmp_path))
    before = {k: v.clone() for k, v in training.published_generator.state_dict().items()}
    training.step(scene(0, size=(16, 32)), 0)
    moved = {k for k, v in training.published_generator.state_dict().items() if not torch.equal(v, before[k])}
    learned = {k for k in before if k.startswith(("cascade.3", "cascade.4", "to_rgb"))}
    assert moved == learned
    assert {k for k, p in training.published_generator.named_parameters() if p.requires_grad} == learned
    with torch.device("meta"):
        network = CascadedRefinementNetwork(spec=spec_of(20, (1024, 2048)), widths=(1024,) * 5 + (512, 512, 128, 32))
    trained = ("cascade.7", "cascade.8", "to_rgb")  # the last two of nine, chosen by the same rule as above
    assert sum(p.numel() for k, p in network.named_parameters() if k.startswith(trained)) == 812_899


class Saved:
    """Bytes that the graph keeps for its gradients, parameters aside; by storage, which has no address on `meta`."""

    def __init__(self, network: torch.nn.Module):
        self.known = {p.untyped_storage()._cdata for p in network.parameters()}
        self.found: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.found[storage._cdata] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.found.values())


def assert_checkpointing_changes_nothing_but_memory(recipe: Any, run: Run) -> None:
    results, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        training = replace(recipe, checkpointing=checkpointing).start(run)
        network = training.published_generator
        saved = Saved(network)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            network(random_layout((32, 64))).sum().backward()
        network.zero_grad()
        losses = [training.step(scene(n, size=(32, 64)), n)["loss"].item() for n in range(3)]
        results.append((losses, [p.detach().clone() for p in network.parameters()]))
        kept.append(saved.total)
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("train_last", [0, 1])
def test_checkpointing_changes_nothing_but_memory(blur: None, tmp_path: Path, train_last: int):
    CascadedRefinementNetwork(spec=spec_of(4, (32, 64)), widths=(8, 8, 8, 8)).save_pretrained(tmp_path)
    recipe = replace(RECIPE, widths=(8, 8, 8, 8), train_last=train_last)
    assert_checkpointing_changes_nothing_but_memory(recipe, replace(run_of(spec_of(4, (32, 64))), start_from=tmp_path))


def test_feature_maps_of_one_candidate_after_the_other():
    """The same terms and gradients, of which the graph keeps a third."""
    loss, photo = PerceptualLoss(load_features("squeezenet")), torch.rand(2, 3, 32, 64) * 2 - 1
    masks = one_hot(random_layout((32, 64), n=2).classes, 4)
    found, kept = [], []
    for one_by_one in (False, True):
        torch.manual_seed(0)
        paintings = (torch.rand(2, 4, 3, 32, 64) * 2 - 1).requires_grad_()
        saved = Saved(nn.Identity())
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            terms = loss.by_class(paintings, photo, masks, one_by_one)
        found.append((terms, *torch.autograd.grad(best_by_class(terms.sum(0)), paintings)))
        kept.append(saved.total)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    assert kept[1] < 0.4 * kept[0]


def test_modules_that_stay_as_they_are_need_to_come_from_somewhere(blur: None):
    with pytest.raises(UserError, match="--train-last 2: leaves the other modules as they start; give --from RUN too"):
        replace(RECIPE, train_last=2).start(run_of(spec_of(4)))
    replace(RECIPE, train_last=3).start(run_of(spec_of(4)))  # all of them


def test_frozen_modules_keep_nothing_for_gradients(blur: None, tmp_path: Path):
    CascadedRefinementNetwork(spec=spec_of(4, (32, 64)), widths=(8, 8, 8, 8)).save_pretrained(tmp_path)
    totals = []
    for last in (4, 1):
        run = replace(run_of(spec_of(4, (32, 64))), start_from=tmp_path)
        training = replace(RECIPE, widths=(8, 8, 8, 8), train_last=last).start(run)
        saved = Saved(training.published_generator)
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            training.published_generator(random_layout((32, 64)))
        totals.append(saved.total)
    assert totals[1] < 0.85 * totals[0]


def test_recipes_that_no_training_can_have(blur: None):
    for changes, words in (
        ({"candidates": 0}, "--candidates 0: must be 1 or more"),
        ({"train_last": 4}, r"--train-last 4: must be 0 \(all\) to 3 modules"),
        ({"train_last": -1}, "--train-last -1"),
    ):
        with pytest.raises(UserError, match=words):
            replace(RECIPE, **changes).check()  # type: ignore[arg-type]
    with pytest.raises(UserError, match="candidates 0: must be 1 or more"):
        CascadedRefinementNetwork(spec=spec_of(4), widths=(4,), candidates=0)
