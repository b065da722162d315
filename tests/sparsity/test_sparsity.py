"""Sparsity training, without a trainer: what each mode does to which gammas, and what it is asked for."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import Net, block, conv, image, yolo
from helpers.sparsity_runs import A, C, arguments, gammas, residual, run_of, scales_of, set_all, set_gammas, train
from ultralytics.pruning import PruningError, trace
from ultralytics.pruning.selection.limits import DEFAULT_ROUND_TO
from ultralytics.pruning.selection.zeros import zero_groups
from ultralytics.pruning.sparsity import MODES, SCHEDULES, Scales, Settings
from ultralytics.pruning.sparsity.erasing import erasable
from ultralytics.pruning.sparsity.modes.group import shrink_groups
from ultralytics.pruning.sparsity.modes.group_sl import relative_rates
from ultralytics.pruning.sparsity.modes.proximal import shrink
from ultralytics.pruning.sparsity.modes.subgradient import add_subgradient
from ultralytics.utils import DEFAULT_CFG_DICT


def test_the_subgradient_is_added_to_prunable_gammas_alone():
    net = set_all(residual())
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    net.b[1].weight.grad = None  # not reached by the loss
    scales = scales_of(net)
    add_subgradient(scales, 0.1, bias_strength=0.01)
    assert net.a[1].weight.grad.tolist() == pytest.approx([0.35, 0.15, 0.35, 0.25])
    assert net.b[1].weight.grad is None
    assert net.out[1].weight.grad.tolist() == [0.25, 0.25]
    sign = net.a[1].bias.sign()
    torch.testing.assert_close(net.a[1].bias.grad, 0.25 + 0.01 * sign)
    assert (net.out[1].bias.grad == 0.25).all() and (net.a[0].weight.grad == 0.25).all()


def test_the_proximal_step_shrinks_each_gamma_to_exact_zeros():
    net = set_all(residual())
    betas = net.a[1].bias.tolist()
    shrink(scales_of(net), 0.1)
    assert gammas(net, "a") == pytest.approx([0.4, -0.1, 0.0, 0.0])
    assert gammas(net, "b") == pytest.approx([0.2, -0.2, 0.0, 0.9, 0.0, 0.1])
    assert gammas(net, "b").count(0.0) == 2
    assert gammas(net, "out") == pytest.approx([0.01, 0.02])
    assert net.a[1].bias.tolist() == betas


def test_the_group_step_moves_the_root_mean_square_and_takes_members_to_zero_together():
    net = set_all(residual())
    shrink_groups(scales_of(net), 0.1, bias_step=0.05)
    for place, (a, c) in enumerate(zip(A, C, strict=True)):
        size = math.sqrt((a * a + c * c) / 2)
        factor = max(1 - 0.1 / size, 0) if size else 0
        assert gammas(net, "a")[place] == pytest.approx(a * factor)
        assert gammas(net, "c")[place] == pytest.approx(c * factor)
    assert gammas(net, "a")[2] == gammas(net, "c")[2] == 0.0
    assert gammas(net, "b") == pytest.approx([0.2, -0.2, 0.0, 0.9, 0.0, 0.1])  # alone in their groups: as before
    assert gammas(net, "out") == pytest.approx([0.01, 0.02])


def idle(net: nn.Module) -> None:
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.001),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0),
    "RMSProp": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mode", ["proximal", "group"])
def test_an_idle_gamma_moves_by_sr_in_an_epoch_whatever_the_optimizer_and_batch(mode, name, steps):
    net = residual()
    set_gammas(net, a=[1.0] * 4, b=[1.0] * 6, c=[1.0] * 4)
    optimizer = OPTIMIZERS[name](net.parameters())
    run = run_of(net, sparsity=mode, sr=0.1, sr_schedule="constant")
    run.attach(optimizer)
    run.epoch_starts(0, 10)
    for step in range(steps):
        for _ in range(1 + step % 2):  # batches
            run.batch_starts(steps + steps // 2)
        idle(net)
        optimizer.step()
    for layer in "abc":
        assert gammas(net, layer) == pytest.approx([0.9] * len(gammas(net, layer)), abs=1e-6)
    assert run.mode.travel == pytest.approx(0.1)


def test_musgd_is_as_good_as_any():
    from ultralytics.optim.muon import MuSGD

    net = residual()
    set_gammas(net, a=[1.0] * 4, b=[1.0] * 6, c=[1.0] * 4)
    scalars = [p for p in net.parameters() if p.ndim == 1]
    optimizer = MuSGD([{"params": scalars, "lr": 0.01, "momentum": 0.9, "use_muon": False}])
    run = run_of(net, sparsity="proximal", sr=0.1, sr_schedule="constant")
    run.attach(optimizer)
    run.epoch_starts(0, 10)
    run.batch_starts(1)
    idle(net)
    optimizer.step()
    assert gammas(net, "b") == pytest.approx([0.9] * 6)


@pytest.mark.parametrize("mode", ["proximal", "group", "group_sl", "steered"])
@pytest.mark.parametrize("fused", [False, True])
def test_nothing_moves_where_the_gradient_scaler_skips_a_step(mode, fused):
    net = set_all(residual()).float()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=fused)
    asked = {"target_sparsity": 0.5} if mode == "steered" else {"sr": 0.1}
    run = run_of(net, sparsity=mode, **asked)
    run.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for epoch, broken in enumerate([False, True, False]):
        run.epoch_starts(epoch, 3)
        run.batch_starts(2)
        before = copy.deepcopy(net.state_dict())
        loss = sum((p * (math.inf if broken else 1.0)).sum() for p in net.parameters())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        same = all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
        assert same == broken
        if mode == "steered":
            assert run.mode.importance.isfinite().all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    strengths = [Settings("subgradient", sr=2.0, schedule=name).strength(epoch, 10) for epoch in range(10)]
    assert all(0 <= strength <= 2 for strength in strengths) and max(strengths) == pytest.approx(2)
    expected = {
        "linear": [2 * (1 - 0.9 * e / 10) for e in range(10)],
        "constant": [2.0] * 10,
        "cosine": [1.1 + 0.9 * math.cos(math.pi * e / 10) for e in range(10)],
        "ramp": [0.4 * min(e, 10 - e) for e in range(10)],
    }[name]
    assert strengths == pytest.approx(expected)


REFUSED = {
    "unknown mode": ({"sparsity": "proximall", "sr": 0.1}, "did you mean 'proximal'"),
    "unknown schedule": ({"sr": 0.1, "sr_schedule": "step"}, "there are linear, constant, cosine, ramp"),
    "two targets": ({"sparsity": "steered", "target_speed_up": 2.0, "target_sparsity": 0.5}, "one target is enough"),
    "target and sr": ({"sparsity": "proximal", "target_speed_up": 2.0, "sr": 0.1}, "leave out one of both"),
    "steered by nothing": ({"sparsity": "steered"}, "needs target_speed_up"),
    "steered by sr": ({"sparsity": "steered", "sr": 0.1}, "needs target_speed_up"),
    "steered and sr_bias": ({"sparsity": "steered", "target_sparsity": 0.5, "sr_bias": 0.1}, "leave out sr_bias"),
    "growing by nothing": ({"sparsity": "group_reg", "sr": 0.1}, "needs target_speed_up"),
    "group_sl to a target": ({"sparsity": "group_sl", "target_sparsity": 0.5}, "for a target use sparsity=steered"),
    "group_sl and sr_bias": ({"sparsity": "group_sl", "sr": 0.1, "sr_bias": 0.1}, "leave out sr_bias"),
    "subgradient to a target": ({"target_speed_up": 2.0}, "use sparsity=steered"),
    "a mode without strength": ({"sparsity": "proximal"}, "without a strength"),
    "sr_bias alone": ({"sr_bias": 0.1}, "without a strength"),
    "speed-up below 1": ({"sparsity": "steered", "target_speed_up": 0.5}, "at least 1"),
    "sparsity above 1": ({"sparsity": "steered", "target_sparsity": 1.5}, "below 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(PruningError, match=message):
        Settings.of(arguments(**changes))


def test_the_lighter_a_group_the_faster_it_decays():
    """By hand: 2^0, 2^-2 and 2^-4 for the lightest, the middle and the heaviest of a layer; pinned ones not at all."""
    net = Net(lambda n, x: n.out(n.a(x)), a=block(3, 3), out=conv(3, 2, 1))
    channel_map = trace(net, image(net, 16))
    norms = np.full(len(channel_map.channels), 100.0)
    norms[channel_map.layers["a.0"].outputs] = [1.0, 2.0, 3.0]
    factors = relative_rates(channel_map, norms)
    assert factors[channel_map.layers["a.0"].outputs] == pytest.approx([1.0, 0.25, 0.0625])
    assert (factors[~channel_map.free] == 0).all()


@pytest.mark.parametrize("layers", ["plain", "grouped", "transposed"])
def test_a_weight_decays_by_the_groups_that_make_and_that_read_it(layers):
    """Rates by hand: filter o of input i becomes exp(-share * (rate_o + rate_i)) of itself; the output's stays."""
    second = {
        "plain": lambda: conv(4, 6, bias=False),
        "grouped": lambda: conv(4, 6, groups=2, bias=False),
        "transposed": lambda: nn.ConvTranspose2d(4, 6, 2, 2, bias=False),
    }[layers]()
    net = Net(
        lambda n, x: n.out(n.b(n.a(x))), a=block(3, 4), b=nn.Sequential(second, nn.BatchNorm2d(6)), out=conv(6, 2, 1)
    )
    run = run_of(net, sparsity="group_sl", sr=1.0, sr_schedule="constant")
    decay, channel_map = run.mode, trace(net, image(net, 16))
    rate = {}
    for name, rates in (("a.0", [0.1, 0.2, 0.3, 0.4]), ("b.0", [1.0, 0.0, 2.0, 0.0, 3.0, 0.0])):
        decay._rates[channel_map.layers[name].outputs] = torch.tensor(rates)
        rate[name] = rates
    decay.strength, before = 1.0, copy.deepcopy(net.state_dict())
    decay.after_step(0.5)
    after = net.state_dict()
    weight, was = after["b.0.weight"], before["b.0.weight"]
    for i in range(4):
        for o in range(6):
            factor = math.exp(-0.5 * (rate["a.0"][i] + rate["b.0"][o]))
            if layers == "plain":
                here = (o, i)
            elif layers == "transposed":
                here = (i, o)
            elif i // 2 == o // 3:
                here = (o, i % 2)
            else:
                continue
            torch.testing.assert_close(weight[here], was[here] * factor, rtol=1e-5, atol=0)
    for name in ("a.1.weight", "a.1.bias"):
        expected = before[name] * torch.exp(-0.5 * torch.tensor(rate["a.0"]).to(before[name]))
        torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=0)
    factors = torch.exp(-0.5 * torch.tensor(rate["b.0"]).to(weight))
    torch.testing.assert_close(
        after["out.weight"], before["out.weight"] * factors[None, :, None, None], rtol=1e-5, atol=0
    )
    assert torch.equal(after["out.bias"], before["out.bias"])


def test_growing_regularisation_leaves_a_thousandth_before_it_holds():
    """Of an idle gamma that the target removes: exp of minus the sum of the rates; the others do not move."""
    net = yolo("yolov8n")
    run = run_of(net, sparsity="group_reg", target_sparsity=0.5)
    before, chosen = run.scales.values(), torch.from_numpy(run.mode.removed)[run.scales.groups]
    for epoch in range(7):
        run.epoch_starts(epoch, 10)
        for _ in range(4):
            run.mode.after_step(0.25)
    torch.testing.assert_close(run.scales.values()[chosen], before[chosen] * 1e-3, rtol=0.02, atol=0)
    assert torch.equal(run.scales.values()[~chosen], before[~chosen])
    run.epoch_starts(7, 10)
    assert (run.scales.values()[chosen] == 0).all()


def test_without_a_word_there_is_no_sparsity():
    assert Settings.of(arguments()) is None
    assert DEFAULT_CFG_DICT["round_to"] == DEFAULT_ROUND_TO
    assert Settings.of(arguments(sr=0.1)).mode == next(iter(MODES)) == "subgradient"


def test_a_strength_that_fades_all_at_once_is_refused():
    net = residual()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for changes in ({"sr": 0.1}, {"sr": 5.0, "sparsity": "proximal"}):
        with pytest.raises(PruningError, match="would fade at once; use an sr of at most"):
            run_of(net, **changes).check(optimizer, steps_per_epoch=100, epochs=10)
    run_of(net, sr=0.001).check(optimizer, steps_per_epoch=100, epochs=10)
    with pytest.raises(PruningError, match="at least 3 epochs"):
        run_of(net, sparsity="steered", target_sparsity=0.5).check(optimizer, 100, epochs=2)


def test_under_adam_the_strength_says_nothing_so_that_none_is_refused():
    net = residual()
    set_gammas(net, a=[1.0] * 4, b=[1.0] * 6, c=[1.0] * 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.001)
    run = run_of(net, sr=0.1)
    run.attach(optimizer)
    run.check(optimizer, steps_per_epoch=10_000, epochs=10)
    run.epoch_starts(0, 10)
    idle(net)
    run.add_to_gradients(optimizer)
    assert run.mode.travel == pytest.approx(0.001)
    run.mode.travel = 0.01
    assert not any("times as large" in line for line in run.findings())


def test_sums_over_groups_are_those_of_a_loop():
    net = yolo("yolov8n")
    scales = Scales.of(net, trace(net))
    values = torch.rand(len(scales.groups), dtype=torch.float64)
    expected = np.zeros(len(scales.members))
    np.add.at(expected, scales.groups.numpy(), values.numpy())
    assert scales.per_group(values).numpy() == pytest.approx(expected)
    assert scales.members.max() > 2


def test_networks_without_anything_to_fade_are_refused():
    net = residual()
    for parameter in net.parameters():
        parameter.requires_grad = False
    with pytest.raises(PruningError, match="frozen"):
        run_of(net, sr=0.1)
    plain = Net(lambda n, x: n.out(n.a(x)), a=conv(3, 4), out=conv(4, 2))
    with pytest.raises(PruningError, match="no batch-norm scale"):
        run_of(plain, sr=0.1)


def test_frozen_gammas_do_not_move_and_their_groups_are_not_chosen():
    net = set_all(residual())
    net.c[1].weight.requires_grad = False  # tied to a
    shrink_groups(scales_of(net), 0.05)
    assert gammas(net, "c") == pytest.approx(C)
    channel_map = trace(net, image(net, 16))
    erases = erasable(channel_map, net)
    assert erases[channel_map.layers["b.0"].outputs].all() and not erases[channel_map.layers["a.0"].outputs].any()
    assert (scales_of(net).whole == erases).all()
    run = run_of(net, sparsity="group", target_sparsity=0.5)
    train(net, run, epochs=5)
    zero = zero_groups(channel_map, net)
    assert zero.sum() == 3 and zero[channel_map.layers["b.0"].outputs].sum() == 3
