"""Diagnostics of a game: what they measure, that they change nothing, and when they say something."""

from __future__ import annotations

import math

import pytest
import torch
from test_pix2pix import scene, start
from torch import Tensor, nn

from photogram.advice import (
    BLOBS,
    CLIPPED,
    COVERED,
    FLAT,
    LOST,
    MORE_PATTERNED,
    PATTERNED,
    STEEP,
    SURE,
    advice,
    is_diagnostic,
)
from photogram.data.toy import Toy
from photogram.nn import diagnostics
from photogram.nn.diagnostics import (
    accuracy,
    checkerboard,
    concentration,
    gradient_norm,
    of_pictures,
    period_of,
    saturated,
)
from photogram.recipes.duel import Duel
from photogram.runfolder import keep_sound

# --- who wins, how steep it is, what is clipped ----------------------------------------------------------------------


def test_accuracies_are_shares_on_the_right_side_of_what_the_game_asks():
    real, fake = torch.tensor([[2.0], [0.3], [-1.0], [0.7]]), torch.tensor([-3.0, 0.4, 0.6, -0.1, 1.0])
    for game, right in (("vanilla", (3 / 4, 2 / 5)), ("hinge", (3 / 4, 2 / 5)), ("lsgan", (2 / 4, 3 / 5))):
        found = accuracy(game, real, fake)
        assert [v.item() for v in found.values()] == pytest.approx(right), game
    assert list(found) == ["accuracy/photographs", "accuracy/paintings"]
    assert accuracy("wgangp", real, fake) == {}, "there is no bound"


def test_a_gradients_length_is_that_of_all_of_them_in_a_row():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(2, 2))
    assert gradient_norm(network).item() == 0
    network[:2](torch.randn(1, 3, 5, 5)).square().sum().backward()  # the last has none
    values = [v for p in network.parameters() if p.grad is not None for v in p.grad.flatten().tolist()]
    assert gradient_norm(network).item() == pytest.approx(math.sqrt(sum(v * v for v in values)), rel=1e-5)


def test_saturation_is_the_share_near_the_ends():
    assert saturated(torch.tensor([-1.0, -0.995, -0.98, 0.0, 0.5, 0.989, 0.991, 1.0]).view(1, 1, 2, 4)).item() == 0.5


# --- checkerboards ---------------------------------------------------------------------------------------------------


def board(size: tuple[int, int] = (48, 64), period: int = 2) -> Tensor:
    half = period // 2
    rows, columns = torch.arange(size[0])[:, None] // half, torch.arange(size[1]) // half
    return ((rows + columns) % 2 * 2.0 - 1)[None, None]


def slow_checkerboard(pictures: Tensor, period: int) -> float:
    """By the whole Fourier transform, frequency by frequency."""
    height, width = (n // period * period for n in pictures.shape[-2:])
    power = torch.fft.fft2(pictures[..., :height, :width].double()).abs().square().sum((0, 1))
    found = around = 0.0
    for i in range(period):
        for j in range(period):
            if (i, j) == (0, 0):
                continue
            row, column = i * height // period, j * width // period
            near = [power[row, (column + d) % width] for d in (-2, -1, 1, 2) if j]
            near += [power[(row + d) % height, column] for d in (-2, -1, 1, 2) if i]
            frequency = sum(min(n / period, 1 - n / period) ** 2 for n in (i, j))
            found += frequency * float(power[row, column])
            around += frequency * float(sum(near)) / len(near)
    return found / (found + around)


@pytest.mark.parametrize("size", [(48, 64), (13, 27), (12, 12), (31, 96)])
@pytest.mark.parametrize("period", [2, 4])
def test_the_few_frequencies_are_those_of_the_whole_transform(size, period):
    for seed in range(3):
        x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed)) + 0.1 * board(size) + 0.5
        assert checkerboard(x, period).item() == pytest.approx(slow_checkerboard(x, period), rel=1e-4)


def test_checkerboards_and_stripes_are_seen_whatever_their_strength():
    stripes = board()[:, :, :1].expand(-1, -1, 48, -1)
    for pattern in (board(), stripes, board()[..., :48].mT, 0.001 * board() + 0.3):
        assert checkerboard(pattern, 2).item() > 0.999
        assert checkerboard(pattern, 4).item() > 0.999
    assert checkerboard(board(period=4), 4).item() > 0.999
    assert checkerboard(torch.full((1, 3, 48, 64), 0.3)).item() == 0, "one colour is no pattern"


def test_of_noise_it_is_a_half_and_of_a_board_in_noise_the_closed_form():
    """A board of strength a in noise of variance 1, of N pixels: (N a^2 + S) / (N a^2 + 2 S), all weighed alike."""
    noise = torch.randn(400, 1, 48, 64, generator=torch.Generator().manual_seed(0))
    for period in (2, 4):
        assert checkerboard(noise, period).item() == pytest.approx(0.5, abs=0.02)
        frequencies = [(i, j) for i in range(period) for j in range(period) if i or j]
        weights = sum(sum(min(n / period, 1 - n / period) ** 2 for n in f) for f in frequencies)
        for strength in (0.01, 0.03, 0.1):
            board_energy = 48 * 64 * strength**2 / 2  # its frequency is (1/2, 1/2), of weight 1/2
            expected = (board_energy + weights) / (board_energy + 2 * weights)
            assert checkerboard(noise + strength * board(), period).item() == pytest.approx(expected, abs=0.02)


def test_smooth_pictures_and_photographs_have_none():
    rows, columns = torch.arange(96)[:, None] / 96, torch.arange(128) / 128
    for smooth in (rows + columns, rows * columns, torch.sin(9 * rows) + columns, (rows - 0.5).abs() + 0 * columns):
        assert checkerboard(smooth[None, None], 4).item() < 0.6
    for size in ((96, 128), (48, 64)):
        toy = Toy("val", size=size, count=12)
        photos = torch.cat([p for p in (toy[i, 0].photo for i in range(12)) if p is not None])
        assert 0.4 < checkerboard(photos).item() < 0.6
        for strength, least in ((0.02, 0.8), (0.05, 0.95)):  # two and a half grey levels, and six
            assert checkerboard(photos + strength * board(size), 4).item() > least


def test_it_is_measured_where_there_is_room():
    assert [period_of(n, 64) for n in (5, 6, 11, 12, 256)] == [None, 2, 2, 4, 4]
    assert set(of_pictures("paintings", torch.rand(2, 3, 4, 9))) == {"saturated/paintings"}
    assert set(of_pictures("paintings", torch.rand(2, 3, 6, 9))) == {"saturated/paintings", "checkerboard/paintings"}


# --- in a game -------------------------------------------------------------------------------------------------------


def test_steps_are_the_same_with_and_without(monkeypatch):
    """To the last bit: weights, losses, and the numbers that are drawn next."""
    outcomes = []
    for diagnosed in (True, False):
        if not diagnosed:
            monkeypatch.setattr(Duel, "diagnosed", lambda *_: {})
        training, losses = start(), []
        for n in range(6):
            torch.manual_seed(n)
            losses.append(training.step(scene(n, 2), n))  # the run's batch size is 1
        found = [any(is_diagnostic(name) for name in one) for one in losses]
        assert found == [False, False, False, False, diagnosed, False], "of every fifth step"
        kept = [{k: v.item() for k, v in one.items() if not is_diagnostic(k)} for one in losses]
        outcomes.append((training.published_generator, training.judging, kept, torch.rand(3)))
    for part in (0, 1):
        ours, theirs = (outcome[part].state_dict() for outcome in outcomes)
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert outcomes[0][2] == outcomes[1][2] and torch.equal(outcomes[0][3], outcomes[1][3])


def test_what_is_logged_is_what_happened():
    training, one = start(), scene(n=2)
    seen: list[Tensor] = []
    training.discriminator.register_forward_hook(lambda m, i, o: seen.append(o.detach().clone()))
    painted: list[Tensor] = []
    training.generator.register_forward_hook(lambda m, i, o: painted.append(o.detach().clone()))
    losses = training.step(one, 4)
    names = list(losses)
    assert names[:4] == ["loss", "discriminator", "l1", "adversarial"], "losses come first: the bar shows four"
    assert not any(value.requires_grad for name, value in losses.items() if is_diagnostic(name))
    assert losses["accuracy/photographs"].item() == (seen[0] > 0).float().mean().item()
    assert losses["accuracy/paintings"].item() == (seen[1] < 0).float().mean().item()
    for name, network in (("generator", training.published_generator), ("discriminator", training.judging)):
        together = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        assert losses[f"gradient/{name}"].item() == pytest.approx(together.norm().item(), rel=1e-5)
    assert losses["saturated/paintings"].item() == saturated(painted[0]).item()
    assert losses["checkerboard/paintings"].item() == checkerboard(painted[0], 4).item()
    assert losses["checkerboard/photographs"].item() == checkerboard(one.photo, 4).item()


def test_of_large_batches_a_few_pictures_are_looked_at():
    pictures = torch.rand(9, 3, 16, 16)
    few = checkerboard(pictures[: diagnostics.LOOKED_AT])
    assert of_pictures("paintings", pictures)["checkerboard/paintings"].item() == few.item()


# --- advice ----------------------------------------------------------------------------------------------------------

WELL = {
    "accuracy/photographs": 0.6,
    "accuracy/paintings": 0.7,
    "gradient/generator": 3.0,
    "gradient/discriminator": 0.5,
    "saturated/photographs": 0.1,
    "saturated/paintings": 0.05,
    "checkerboard/photographs": 0.5,
    "checkerboard/paintings": 0.55,
}


def test_nothing_is_said_where_all_is_well_or_nothing_known():
    assert advice(WELL) == advice({}) == advice({"loss": 9e9}) == []
    lines = {"saturated/photographs": 0.9, "saturated/paintings": 0.95}  # drawings on white
    comic = {"checkerboard/photographs": 0.8, "checkerboard/paintings": 0.85}  # blocks of JPEG
    assert advice(WELL | lines | comic) == []


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [
        ({"accuracy/photographs": 1.0, "accuracy/paintings": SURE}, {"accuracy/paintings": SURE + 0.01}, "is right of"),
        ({"accuracy/paintings": LOST}, {"accuracy/paintings": LOST - 0.01}, "takes 81% of paintings for photographs"),
        ({"accuracy/photographs": LOST}, {"accuracy/photographs": 0.1}, "takes 90% of photographs for paintings"),
        (
            {"gradient/generator": FLAT},
            {"gradient/generator": FLAT / 2},
            "has nearly vanished",
        ),
        (
            {"gradient/discriminator": STEEP},
            {"gradient/discriminator": 2 * STEEP},
            "is very l",
        ),
        (
            {"saturated/paintings": 0.1 + CLIPPED},
            {"saturated/paintings": 0.36},
            "36% of the values of",
        ),
        (
            {"checkerboard/paintings": PATTERNED},
            {"checkerboard/paintings": 0.76},
            "repeats every few pixels (0.76",
        ),
    ],
)
def test_one_sentence_is_said_of_what_is_out_of_range(inside, outside, words):
    assert advice(WELL | inside) == []
    (sentence,) = advice(WELL | inside | outside)
    assert words in sentence and sentence.endswith(".") and "\n" not in sentence


def test_a_collapse_on_the_toy_world_is_told_with_what_is_shown():
    shares = {"modes/day": 0.61, "modes/evening": 0.0, "modes/night": 0.39, "modes/clouds": 0.0}
    assert advice(WELL | shares | {"modes/covered": COVERED}) == []
    (sentence,) = advice(WELL | shares | {"modes/covered": 0.5})
    assert "paints 50% of the toy world's kinds of scene (day 61%, evening 0%, night 39%, clouds 0%)" in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_patterns_of_the_photographs_are_no_fault_of_the_paintings():
    bound = 0.8 + MORE_PATTERNED
    for value, count in ((bound - 0.01, 0), (bound + 0.01, 1)):
        assert len(advice(WELL | {"checkerboard/photographs": 0.8, "checkerboard/paintings": value})) == count


def test_concentration_is_the_share_of_the_strongest_places():
    even = torch.ones(1, 4, 32, 64)
    assert float(concentration(even)) == pytest.approx(1 / 256)
    calm = torch.randn(2, 4, 32, 64, generator=torch.Generator().manual_seed(0))
    energies = calm.square().mean(1).flatten(1).tolist()  # the obvious way: 8 of 2048 places
    shares = [sum(sorted(one)[-8:]) / sum(one) for one in energies]
    assert float(concentration(calm)) == pytest.approx(sum(shares) / 2, rel=1e-5) and max(shares) < 0.05
    even[0, :, 5, 5] = 1e4
    assert float(concentration(even)) > 0.99
    assert float(concentration(torch.zeros(1, 4, 8, 8))) == 0
    for size in ((1, 1), (8, 8), (12, 16), (16, 24), (33, 50)):  # of any number of places an even one has 1/256
        assert float(concentration(torch.ones(1, 4, *size))) == pytest.approx(1 / 256)
    one = torch.zeros(1, 4, 12, 16)
    one[0, :, 5, 5] = 7
    assert float(concentration(one)) == pytest.approx(192 / 256)


def test_bright_blobs_are_told_and_the_last_sound_network_is_kept(tmp_path):
    assert not any("blobs" in said for said in advice({BLOBS: 0.45}))
    assert any("bright blobs" in said and "sound" in said for said in advice({BLOBS: 0.55}))
    (sentence,) = advice({BLOBS: 0.55})
    assert (
        "start another run --from the folder `sound` of this one, which holds the last network without them" in sentence
    )
    assert "--spectral or a --discriminator-rate below --learning-rate; a run that starts without --from" in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(f"{name} of step 1")
    keep_sound(tmp_path, blobs=False)
    assert not (tmp_path / "sound").exists()
    keep_sound(tmp_path, blobs=True)  # before step 2 takes their place
    (tmp_path / "model.safetensors").write_text("of step 2")
    keep_sound(tmp_path, blobs=True)
    assert (tmp_path / "sound" / "model.safetensors").read_text() == "model.safetensors of step 1"
    keep_sound(tmp_path, blobs=False)  # it went away: what is published is sound
    assert not (tmp_path / "sound").exists()
