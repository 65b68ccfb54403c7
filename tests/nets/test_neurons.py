"""The trainable neuron against the reference vectors of both papers, and its gradient against autograd."""

from pathlib import Path

import numpy as np
import pytest
import torch

from snnkd_deploy.arithmetic.cuba import CubaNeuron
from snnkd_deploy.nets import neurons
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, compile_neurons, lif_over_time
from snnkd_deploy.nets.surrogate import sech_squared_of_twice, sigmoid4, triangle

VECTORS = Path(__file__).parents[1] / "distill" / "distillation_vectors.npz"
CASES = {
    "seal_cifar": Lif(0.5, 1.0, sigmoid4, fires=">="),
    "seal_imagenet": Lif(0.2, 1.0, sigmoid4, fires=">="),
    "ckdsnn": Lif(0.5, 1.0, triangle, fires=">"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reference_vectors(name, dtype):
    with np.load(VECTORS) as z:
        x = torch.tensor(z["lif/in_x"], dtype=dtype, requires_grad=True)
        gout = torch.tensor(z["lif/in_gout"], dtype=dtype)
        spikes, grad = z[f"lif/{name}_spikes"], z[f"lif/{name}_grad_x"]
    out = lif_over_time(x, CASES[name])
    assert np.array_equal(out.detach().numpy(), spikes)
    (out * gout).sum().backward()
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(x.grad.numpy(), grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("table", "function"), [("sigmoid4", sigmoid4), ("triangle1", triangle)])
def test_surrogate_tables(table, function):
    with np.load(VECTORS) as z:
        x, expected = torch.tensor(z["lif/surrogate_x"]), z[f"lif/surrogate_{table}"]
    np.testing.assert_allclose(function(x).numpy(), expected, rtol=1e-9, atol=1e-12)


def _unrolled(x, lif):
    """The same neuron step by step, with the surrogate put in by hand: the gradient that autograd derives."""

    class Fire(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v > lif.threshold).to(v.dtype)

        @staticmethod
        def backward(ctx, grad):
            return grad * lif.surrogate(ctx.saved_tensors[0] - lif.threshold)

    v = u = torch.zeros_like(x[0])
    spikes = []
    for t in range(x.shape[0]):
        u = lif.leak_u * u + x[t]
        v = lif.leak_v * v + u
        s = Fire.apply(v)
        v = v * (1 - s)
        spikes.append(s)
    return torch.stack(spikes)


@pytest.mark.parametrize("leak_u", [0.0, 0.7])
def test_gradient_equals_autograd(leak_u):
    lif = Lif(0.6, 0.8, sigmoid4, leak_u=leak_u)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 3, 4, dtype=torch.float64, generator=generator)
    gout = torch.randn(7, 3, 4, dtype=torch.float64, generator=generator)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    (lif_over_time(a, lif) * gout).sum().backward()
    (_unrolled(b, lif) * gout).sum().backward()
    assert torch.equal(lif_over_time(x, lif), _unrolled(x, lif))
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


def test_constant_drive_equals_its_repetition():
    lif = Lif(0.5, 1.0, sigmoid4)
    x = torch.randn(1, 4, 2, 3, 3)
    a, b = x.clone().requires_grad_(), x.expand(5, -1, -1, -1, -1).clone().requires_grad_()
    out_a, out_b = lif_over_time(a, lif, steps=5), lif_over_time(b, lif)
    assert torch.equal(out_a, out_b)
    weights = torch.randn_like(out_a)
    (out_a * weights).sum().backward()
    (out_b * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad.sum(0, keepdim=True))


def test_channels_last_drive_gives_the_same():
    lif = Lif(0.5, 1.0, sigmoid4)
    x = torch.randn(2 * 3, 4, 5, 5)
    last = x.to(memory_format=torch.channels_last)
    a, b = x.clone().requires_grad_(), last.clone(memory_format=torch.preserve_format).requires_grad_()
    out_a, out_b = lif_over_time(a.reshape(2, 3, 4, 5, 5), lif), lif_over_time(b.reshape(2, 3, 4, 5, 5), lif)
    assert torch.equal(out_a, out_b)
    weights = torch.randn(2, 3, 4, 5, 5)
    (out_a * weights).sum().backward()
    (out_b * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [4, 5])  # one loop over all, and short ones
def test_compiled_neurons_give_the_same_bits(steps):
    lif = Lif(0.5, 1.0, sigmoid4)
    generator = torch.Generator().manual_seed(0)
    x, gout = (torch.randn((steps, 64, 8, 7, 7), generator=generator) for _ in range(2))
    exact = x.double().requires_grad_()
    (lif_over_time(exact, lif) * gout).sum().backward()
    results = []
    for enable in (False, True):
        problem = compile_neurons(enable)
        if problem:
            pytest.skip(f"torch.compile is not usable here: {problem}")
        a = x.clone().requires_grad_()
        out = lif_over_time(a, lif)
        (out * gout).sum().backward()
        results.append((out.detach(), a.grad))
    compile_neurons(False)
    assert torch.equal(results[0][0], results[1][0])
    # Each has its own formula of the surrogate, and both are held to double precision.
    for _, gradient in results:
        torch.testing.assert_close(gradient.double(), exact.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("chip", [False, True])
def test_long_sequences_in_blocks(monkeypatch, constant, chip):
    """A kernel unrolls some steps only: states and gradients pass from block to block."""
    lif = Lif(0.5, 1.0, sigmoid4, leak_u=0.5)
    neuron = ChipNeuron(CubaNeuron(2048, 2048, 100, u_in_range=True), 100.0, 6) if chip else None
    torch.manual_seed(0)
    x = torch.randn(1 if constant else 11, 3, 6)
    x = (100 * x).round() if chip else x
    pull = torch.randn(11, 3, 6)
    results = []
    for longest in (16, 4):
        monkeypatch.setattr(neurons, "_LONGEST", longest)
        a = x.clone().requires_grad_()
        out = lif_over_time(a, lif, neuron, 11)
        (out * pull).sum().backward()
        results.append((out.detach(), a.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert 0.05 < float(results[0][0].mean()) < 0.95
    assert float(results[0][1].abs().max()) > 0


def test_the_surrogate_of_compiled_kernels_is_the_same_function():
    x = torch.linspace(-30.0, 30.0, 60001)
    expected = sigmoid4(x.double())
    torch.testing.assert_close(sech_squared_of_twice(x).double(), expected, rtol=0, atol=3e-7)
    near = x.abs() < 3
    torch.testing.assert_close(sech_squared_of_twice(x[near]).double(), expected[near], rtol=3e-6, atol=0)
    assert sech_squared_of_twice(torch.tensor([1e20, -1e20])).tolist() == [0.0, 0.0]


def test_gradient_of_a_sum_over_time():
    """Its rows are one and the same memory."""
    lif, x = Lif(0.5, 1.0, sigmoid4), torch.randn(4, 2, 6)
    sums, copies = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(2, 6)
    (lif_over_time(sums, lif).sum(0) * weight).sum().backward()
    (lif_over_time(copies, lif) * weight.repeat(4, 1, 1)).sum().backward()
    assert torch.equal(sums.grad, copies.grad)
