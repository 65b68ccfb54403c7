"""Files that other simulators write, run by `float` and by the simulator itself: the same spikes."""

import importlib.util
import warnings

import nir
import pytest
import torch

from snnkd_deploy.backends.float_reference import FloatBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.graph.nirfile import read_nir

DT = 1e-4


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def ours(graph, path, x):
    """Spikes of the last population, (T, B, ...)."""
    nir.write(path, graph)
    model = read_nir(path, dt_s=DT, reset="zero")
    trace = FloatBackend().run(model, make_inputs(x.numpy(), model), Record())
    return trace.spikes[model.spiking[-1]]


def spikes(steps, samples, *shape):
    torch.manual_seed(1)
    return (torch.rand(steps, samples, *shape) < 0.5).float()


def snntorch_net(name):
    import snntorch as snn

    torch.manual_seed(0)
    nn = torch.nn
    common = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}

    def leaky(*shape, **more):
        return snn.Leaky(beta=torch.full(shape, 0.9), threshold=torch.full(shape, 0.5), **common, **more)

    if name == "dense":
        return nn.Sequential(nn.Linear(10, 20), leaky(20), nn.Linear(20, 5), leaky(5, output=True)), (10,)
    if name == "conv":
        layers = [nn.Conv2d(2, 4, 3, padding=1, stride=2), leaky(4, 6, 6), nn.AvgPool2d((2, 2)), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(36, 5), leaky(5, output=True)), (2, 12, 12)
    if name == "synaptic":
        cell = snn.Synaptic(
            alpha=torch.full((20,), 0.8), beta=torch.full((20,), 0.9), threshold=torch.ones(20), output=True, **common
        )
        return nn.Sequential(nn.Linear(10, 20), cell), (10,)
    cell = snn.RLeaky(beta=torch.full((20,), 0.9), linear_features=20, output=True, **common)
    return nn.Sequential(nn.Linear(10, 20), cell), (10,)


@needs("snntorch")
@pytest.mark.parametrize("name", ["dense", "conv", "synaptic", "recurrent"])
def test_snntorch(name, tmp_path):
    from snntorch.export_nir import export_to_nir

    net, shape = snntorch_net(name)
    x = spikes(30, 3, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = export_to_nir(net, x[0][:1], ignore_dims=[0])
    for module in net.modules():
        if hasattr(module, "reset_mem"):
            module.reset_mem()
    outputs = [net(x[t]) for t in range(len(x))]
    expected = torch.stack([o[0] if isinstance(o, tuple) else o for o in outputs]).detach()
    found = ours(graph, tmp_path / "s.nir", x)
    assert expected.sum() > 0 and int((found != expected).sum()) == 0


@needs("spikingjelly")
@pytest.mark.parametrize("name", ["lif", "if", "conv"])
def test_spikingjelly(name, tmp_path):
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(0)
    shape = (10,)
    if name == "lif":
        cells = neuron.LIFNode(tau=2.0, v_threshold=0.31), neuron.LIFNode(tau=3.0, v_threshold=0.113)
        modules = [layer.Linear(10, 20), cells[0], layer.Linear(20, 5), cells[1]]
    elif name == "if":
        cells = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.51), neuron.IFNode(v_threshold=0.713)
        modules = [layer.Linear(10, 20), cells[0], layer.Linear(20, 5), cells[1]]
    else:
        shape = (2, 12, 12)
        modules = [layer.Conv2d(2, 4, 3, padding=1, stride=2), neuron.IFNode(v_threshold=0.517), layer.AvgPool2d(2)]
        modules += [layer.Conv2d(4, 6, 3, padding=1), neuron.LIFNode(v_threshold=0.1371), layer.Flatten()]
        modules += [layer.Linear(54, 5), neuron.IFNode(v_threshold=0.31)]
    net = torch.nn.Sequential(*modules)
    x = spikes(30, 3, *shape)
    graph = export_to_nir(net, x[0][:1], dt=DT)
    functional.reset_net(net)
    expected = torch.stack([net(x[t]) for t in range(len(x))]).detach()
    found = ours(graph, tmp_path / "s.nir", x)
    assert expected.sum() > 0 and int((found != expected).sum()) == 0
