"""The recurrent population and the bias of neurons with a synaptic current: gradients against autograd."""

import numpy as np
import pytest
import torch
from twin import cuba

from snnkd_deploy.arithmetic.cuba import CubaNeuron
from snnkd_deploy.nets.neurons import ChipNeuron, Lif, lif_over_time
from snnkd_deploy.nets.recurrent import recurrent_lif
from snnkd_deploy.nets.surrogate import sigmoid4


def unrolled(x, lif, weight=None, bias=0.0):
    class Fire(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return (v > lif.threshold).to(v.dtype)

        @staticmethod
        def backward(ctx, grad):
            return grad * lif.surrogate(ctx.saved_tensors[0] - lif.threshold)

    u = v = s = torch.zeros_like(x[0])
    out = []
    for drive in x:
        total = drive if weight is None else drive + s @ weight.T
        u = lif.leak_u * u + total
        v = lif.leak_v * v + u + bias
        s = Fire.apply(v)
        v = v * (1 - s)
        out.append(s)
    return torch.stack(out)


@pytest.mark.parametrize("leak_u", [0.0, 0.6])
@pytest.mark.parametrize("has_bias", [False, True])
def test_recurrent_gradient_is_that_of_autograd(leak_u, has_bias):
    torch.manual_seed(0)
    lif = Lif(0.7, 1.0, sigmoid4, leak_u=leak_u)
    x, weight, bias = torch.randn(6, 4, 5), torch.randn(5, 5) * 0.7, torch.randn(5) * 0.2
    out_grad = torch.randn(6, 4, 5, dtype=torch.float64)
    grads = []
    for function in (recurrent_lif, unrolled):
        leaves = [t.double().requires_grad_() for t in (x, weight, bias)]
        if function is unrolled:
            out = unrolled(leaves[0], lif, leaves[1], leaves[2] if has_bias else 0.0)
        else:
            out = recurrent_lif(leaves[0], leaves[1], lif, None, leaves[2] if has_bias else None)
        (out * out_grad).sum().backward()
        grads.append((out.detach(), *[leaf.grad for leaf in leaves[: 3 if has_bias else 2]]))
    assert grads[0][0].any()
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("channels_last", [False, True])
def test_bias_behind_the_current_has_the_gradient_of_autograd(channels_last):
    torch.manual_seed(1)
    lif = Lif(0.5, 1.0, sigmoid4, leak_u=0.6)
    x, bias, out_grad = torch.randn(4, 3, 2, 5, 5).double(), torch.randn(2, 1, 1).double(), torch.randn(4, 3, 2, 5, 5)
    if channels_last:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 3))
    grads = []
    for function in (lambda a, b: lif_over_time(a, lif, bias=b), lambda a, b: unrolled(a, lif, bias=b)):
        a, b = x.clone().requires_grad_(), bias.clone().requires_grad_()
        out = function(a, b)
        (out * out_grad).sum().backward()
        grads.append((out.detach(), a.grad, b.grad))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_recurrent_integers_are_those_of_the_slow_twin():
    rng = np.random.default_rng(0)
    T, N = 8, 6
    x, weight, bias = rng.integers(-80, 120, (T, N)), rng.integers(-60, 60, (N, N)), rng.integers(-20, 20, N)
    lif = Lif(1 - 512 / 4096, 1.0, sigmoid4, leak_u=1 - 2048 / 4096)
    chip = ChipNeuron(CubaNeuron(Du=2048, Dv=512, vth=100, u_in_range=True), 100.0, 6)
    to = lambda a: torch.from_numpy(a).to(torch.float32)  # noqa: E731
    found = recurrent_lif(to(x)[:, None], to(weight), lif, chip, to(bias))[:, 0].numpy()
    # The twin has no loops: feed it, step by step, the spikes that it has given so far.
    drive = x.copy()
    for t in range(T):
        spikes = cuba(drive[: t + 1], 2048, 512, 100, bias << 6)[0]
        if t + 1 < T:
            drive[t + 1] = x[t + 1] + weight @ spikes[t]
    assert spikes.any() and not spikes.all()
    assert np.array_equal(found, spikes)
