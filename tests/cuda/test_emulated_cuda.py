"""The emulation of CUDA itself: it refuses what CUDA refuses, allows what CUDA allows, and computes what the CPU does.

What PyTorch's own FakeTensor, which knows the devices of a real GPU but holds no numbers, says of the same operations
is compared as well, so that the rules here are not just ours.
"""

import copy
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers.emulated_cuda import emulated_cuda
from helpers.emulated_tensor import CudaTensor

# Each gets a tensor (2, 3) of ones on the GPU and one on the CPU.
REFUSED: dict[str, Callable] = {
    "add": lambda g, c: g + c,
    "add, the other way": lambda g, c: c + g,
    "add a number of the GPU to the CPU": lambda g, c: c + g.sum(),
    "compare": lambda g, c: g > c,
    "add in place": lambda g, c: g.add_(c),
    "add in place on the CPU": lambda g, c: c.add_(g),
    "add in place on the CPU, one number each": lambda g, c: c.sum().add_(g.sum()),
    "lerp": lambda g, c: g.lerp_(c, 0.5),
    "addcmul with two numbers of the CPU": lambda g, c: torch.addcmul(g, c.sum(), c.sum()),
    "where, the condition": lambda g, c: torch.where(c > 0, g, 0.0),
    "where, a value": lambda g, c: torch.where(g > 0, g, c),
    "masked_fill": lambda g, c: g.masked_fill(c > 0, 0.0),
    "masked_fill_ on the CPU": lambda g, c: c.masked_fill_(g > 0, 0.0),
    "masked_select": lambda g, c: g.masked_select(c > 0),
    "a mask of the GPU on the CPU": lambda g, c: c[g > 0],
    "an index of the GPU on the CPU": lambda g, c: c[(g[:, 0] * 0).long()],
    "assign several values of the CPU at an index": lambda g, c: g.__setitem__(torch.tensor([0, 1]), c),
    "cat": lambda g, c: torch.cat([g, c]),
    "stack": lambda g, c: torch.stack([g, c]),
    "matmul": lambda g, c: g @ c.T,
    "einsum": lambda g, c: torch.einsum("ij,kj->ik", g, c),
    "linear": lambda g, c: F.linear(g, c),
    "conv2d": lambda g, c: F.conv2d(g.view(1, 1, 2, 3), c.view(1, 1, 2, 3)),
    "batch_norm, the statistics": lambda g, c: F.batch_norm(g, c[0], c[1]),
    "index_select": lambda g, c: g.index_select(0, torch.tensor([0])),
    "index_fill_": lambda g, c: g.index_fill_(0, torch.tensor([0]), 0.0),
    "index_add_": lambda g, c: g.index_add_(0, torch.tensor([0]), c[:1]),
    "gather": lambda g, c: g.gather(0, torch.zeros(1, 3, dtype=torch.long)),
    "scatter_": lambda g, c: g.scatter_(0, torch.zeros(1, 3, dtype=torch.long), c[:1]),
    "cdist": lambda g, c: torch.cdist(g, c),
    "equal": lambda g, c: torch.equal(g, c),
    "_foreach_mul_": lambda g, c: torch._foreach_mul_([g, g], [c, c]),
    "_foreach_mul_, one of them": lambda g, c: torch._foreach_mul_([g, g], [g, c]),
    "_foreach_add": lambda g, c: torch._foreach_add([g], [c], alpha=2.0),
}
ALLOWED: dict[str, Callable] = {
    "a Python number": lambda g, c: 2 * g + 1,
    "a number of the CPU": lambda g, c: g * c.sum(),
    "a number of the CPU, first": lambda g, c: c.sum() - g,
    "a number of the CPU, in place": lambda g, c: g.mul_(c.sum()),
    "compare with a number of the CPU": lambda g, c: g < c.sum(),
    "copy_ from the CPU": lambda g, c: g.copy_(c),
    "copy_ to the CPU": lambda g, c: c.copy_(g),
    "fill_ with a number of the CPU": lambda g, c: g.fill_(c.sum()),
    "assign values of the CPU to a slice": lambda g, c: g.__setitem__(0, c[0]),
    "assign one number of the CPU at an index": lambda g, c: g.__setitem__(torch.tensor([0]), c.sum()),
    "an index of the CPU": lambda g, c: g[torch.tensor([1, 0])],
    "a mask of the CPU": lambda g, c: g[c > 0],
    "an index of numpy": lambda g, c: g[np.array([1, 0])],
    "a list": lambda g, c: g[[1, 0]],
    "masked_fill_ with a number": lambda g, c: g.masked_fill_(g > 0, 0.5),
    "masked_fill_ with a number of the CPU": lambda g, c: g.masked_fill_(g > 0, c.sum()),
    "where with Python numbers": lambda g, c: torch.where(g > 0, 1.0, 0.0),
    "where with a number of the CPU": lambda g, c: torch.where(g > 0, g, c.sum()),
    "_foreach_copy_": lambda g, c: torch._foreach_copy_([g], [c]),
    "_foreach_mul_ with Python numbers": lambda g, c: torch._foreach_mul_([g, g], [2.0, 3.0]),
    "_foreach_mul_ with a number of the CPU": lambda g, c: torch._foreach_mul_([g], c.sum()),
    "to, and back": lambda g, c: (g.cpu() + c).to(g.device) + c.to(g),
    "type_as": lambda g, c: g.double().type_as(g),
    "new_zeros": lambda g, c: g + g.new_zeros(3) + torch.zeros_like(c, device=g.device),
}


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(2, 3, device="cuda:0"), torch.ones(2, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_operations_that_mix_devices_raise(name):
    REFUSED[name](torch.ones(2, 3), torch.ones(2, 3))  # it is the devices that it raises for
    with emulated_cuda(), pytest.raises(RuntimeError, match=r"device"):
        REFUSED[name](*pair())


@pytest.mark.parametrize("name", ALLOWED)
def test_what_cuda_allows_gives_what_the_cpu_gives(name):
    on_cpu = (torch.ones(2, 3), torch.ones(2, 3))
    expected = ALLOWED[name](*on_cpu)
    with emulated_cuda():
        both = pair()
        found = ALLOWED[name](*both)
        for own, other in zip(both, on_cpu, strict=True):
            assert torch.equal(own.cpu(), other)
        if isinstance(found, torch.Tensor):
            assert found.device.type == ("cpu" if name == "copy_ to the CPU" else "cuda")
            assert torch.equal(found.cpu(), expected)


# FakeTensor has no rule for indices and `equal`, counts no numbers of the CPU, and looks at no devices in lists.
NOT_FAKE = {"equal", "a mask of the CPU", "an index of numpy", "a list", "an index of the GPU on the CPU"}
NOT_FAKE |= {"_foreach_mul_", "_foreach_mul_, one of them", "addcmul with two numbers of the CPU"}


@pytest.mark.parametrize("name", sorted({*REFUSED, *ALLOWED} - NOT_FAKE))
def test_pytorch_s_own_fake_tensors_say_the_same(name):
    with FakeTensorMode(allow_non_fake_inputs=True):
        if name in ALLOWED:
            ALLOWED[name](*pair())
        else:
            with pytest.raises((RuntimeError, torch._subclasses.fake_tensor.UnsupportedFakeTensorException)):
                REFUSED[name](*pair())


@pytest.fixture
def cuda():
    with emulated_cuda() as device:
        yield device


@pytest.mark.parametrize(
    "read",
    [
        lambda g: g.numpy(),
        np.asarray,
        lambda g: np.add.at(np.zeros(3), [0, 1, 2], g[0]),
        lambda g: np.testing.assert_array_equal(g, np.ones((2, 3))),
        lambda g: g + torch.from_numpy(np.ones((2, 3), dtype=np.float32)),
    ],
    ids=["numpy()", "asarray", "add.at", "assert_array_equal", "from_numpy"],
)
def test_numpy_does_not_read_the_gpu(cuda, read):
    with pytest.raises((TypeError, RuntimeError), match="device"):
        read(torch.ones(2, 3, device=cuda))
    read(torch.ones(2, 3))


def test_values_shapes_and_devices_are_read(cuda):
    tensor = torch.arange(6.0, device="cuda").view(2, 3)
    assert (tensor.device, tensor.is_cuda, tensor.is_cpu, tensor.get_device()) == (cuda, True, False, 0)
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]] and tensor[1, 2].item() == 5.0 and f"{tensor[1, 2]:.1f}" == "5.0"
    assert tensor.cpu().numpy().sum() == 15 and "cuda:0" in repr(tensor)
    tensor.view(-1)[0] = 7.0
    assert tensor[0, 0] == 7.0 and tensor.untyped_storage().data_ptr() == tensor.T.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "make",
    [
        lambda d: torch.zeros(3, device=d),
        lambda d: torch.full((3,), 2.0, device="cuda"),
        lambda d: torch.arange(3, device=0),
        lambda d: torch.randn(3, device=d),
        lambda d: torch.tensor([1, 2, 3], device=d),
        lambda d: torch.as_tensor(np.arange(3), device=d),
        lambda d: torch.ones(3).to(d, torch.float16),
        lambda d: torch.ones(3).to(d, non_blocking=True),
        lambda d: torch.ones(3).to(device=d, dtype=torch.float64),
        lambda d: torch.ones(3).cuda(),
        lambda d: torch.ones(3).to(torch.zeros(1, device=d)),
        lambda d: torch.ones(3).type_as(torch.zeros(1, device=d)),
        lambda d: torch.zeros_like(torch.ones(3), device=d),
        lambda d: torch.ones(3, device=d).new_tensor([1.0, 2.0, 3.0]),
        lambda d: torch.empty(3, device=d).fill_(1),
    ],
)
def test_what_names_the_gpu_makes_a_tensor_there(cuda, make):
    assert make(cuda).device == cuda and make(cuda).shape == (3,)
    assert make(cuda).cpu().device.type == "cpu" and type(make(cuda).to("cpu")) is torch.Tensor


def test_memory_is_copied_on_the_way(cuda):
    numbers = np.zeros(3)
    there = torch.as_tensor(numbers, device=cuda)
    back = there.cpu()
    there += 1
    assert numbers.sum() == 0 and back.sum() == 0 and there.sum() == 3
    assert there.to(cuda) is there and torch.as_tensor(there) is there


def test_a_generator_of_the_cpu_makes_no_numbers_on_the_gpu(cuda):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=cuda, generator=generator)
    with pytest.raises(RuntimeError, match="generator"):
        torch.empty(3, device=cuda).normal_(generator=generator)
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3, device=cuda).grad = torch.ones(3)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 2))


def trained(device: str, optimizer: Callable, steps: int = 2) -> nn.Module:
    model = network().to(device)
    optimizer = optimizer(model.parameters())
    for seed in range(steps):
        images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        model(images.to(device)).square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model.cpu()


@pytest.mark.parametrize("how", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_training_gives_the_weights_that_it_gives_on_the_cpu(cuda, kind, how):
    def optimizer(parameters):
        more = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return kind(parameters, lr=0.01, weight_decay=0.1, **more, **how)

    there, here = trained("cuda", optimizer), trained("cpu", optimizer)
    assert all(torch.equal(there.state_dict()[name], own) for name, own in here.state_dict().items())
    assert not torch.equal(there[0].weight, network()[0].weight)


def test_a_network_keeps_its_parameters_on_the_way_and_refuses_images_of_the_cpu(cuda):
    model = network()
    weight = model[0].weight
    model.to(cuda)
    assert model[0].weight is weight and weight.is_cuda and isinstance(weight, nn.Parameter) and weight.requires_grad
    assert model[1].running_mean.is_cuda and model[1].num_batches_tracked.is_cuda
    with pytest.raises(RuntimeError, match="device"):
        model(torch.rand(1, 3, 6, 6))
    model(torch.rand(1, 3, 6, 6, device=cuda)).sum().backward()
    assert weight.grad.is_cuda
    copied = copy.deepcopy(model)
    assert copied[0].weight.is_cuda and copied[0].weight is not weight and isinstance(copied[0].weight, nn.Parameter)
    model.cpu()
    assert model[0].weight is weight and not weight.is_cuda and not weight.grad.is_cuda


def test_checkpoints_say_where_their_tensors_were(cuda):
    model = network().to(cuda)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    model(torch.rand(1, 3, 6, 6, device=cuda)).sum().backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save({"model": model, "state": model.state_dict(), "optimizer": optimizer.state_dict()}, file)

    def read(**how):
        file.seek(0)
        return torch.load(file, weights_only=False, **how)

    assert isinstance(read()["model"][0].weight, CudaTensor) and read()["state"]["1.running_mean"].is_cuda
    assert read(map_location=cuda)["model"][0].weight.is_cuda
    here = read(map_location="cpu")
    assert type(here["model"][0].weight) is nn.Parameter and type(here["model"][1].running_mean) is torch.Tensor
    assert {type(t) for own in here["optimizer"]["state"].values() for t in own.values()} == {torch.Tensor}
    model.load_state_dict(here["state"])
    optimizer.load_state_dict(here["optimizer"])
    assert model[0].weight.is_cuda and optimizer.state[model[0].weight]["exp_avg"].is_cuda


def test_a_checkpoint_of_the_gpu_is_read_elsewhere_only_onto_the_cpu():
    file = io.BytesIO()
    with emulated_cuda() as cuda:
        torch.save(torch.ones(3, device=cuda), file)
    file.seek(0)
    assert type(torch.load(file, map_location="cpu")) is torch.Tensor
    file.seek(0)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nothing_is_left_behind():
    before = (torch.cuda.is_available, torch._utils._rebuild_tensor_v2, len(torch.serialization._package_registry))
    with emulated_cuda():
        assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    after = (torch.cuda.is_available, torch._utils._rebuild_tensor_v2, len(torch.serialization._package_registry))
    assert before == after
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(1, device="cuda")
