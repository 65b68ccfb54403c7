"""Networks and recordings that lava-dl ships for its own tests, among them a run of PilotNet on Loihi 2 itself."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from snnkd_deploy.backends.exact import ExactBackend
from snnkd_deploy.backends.inputs import make_inputs
from snnkd_deploy.backends.trace import Record
from snnkd_deploy.graph.netfile import read_net


def folder() -> Path | None:
    try:
        files = distribution("lava-dl").files or []
    except PackageNotFoundError:
        return None
    tiny = next((f for f in files if str(f).endswith("netx/tiny.net")), None)
    return None if tiny is None else Path(str(tiny.locate())).parent


ROOT = folder()
pytestmark = pytest.mark.skipif(ROOT is None, reason="lava-dl, which ships the recordings, is not installed")


def run(name, x, steps=None):
    model = read_net(ROOT / name)
    return ExactBackend().run(model, make_inputs(x, model, steps), Record(states=True))


def maps(array):
    """(W, H, C, T) or (N, T) -> (T, C, H, W) or (T, N)."""
    return array.transpose(3, 2, 1, 0) if array.ndim == 4 else array.T


def test_tinynet_every_layer():
    recorded = ROOT / "gts" / "tinynet"
    image = np.load(recorded / "input_bias.npy").transpose(2, 1, 0)[None, None]
    trace = run("tiny.net", image, 15)
    for layer, file in (("layer0", "input"), ("layer1", "layer1"), ("layer2", "output")):
        expected = np.load(recorded / f"{file}.npy")[0].transpose(3, 0, 1, 2)[1:]  # an empty step comes first
        assert np.array_equal(trace.spikes[layer][:, 0].numpy(), expected), layer


def test_ntidigits_with_axonal_delays():
    recorded = ROOT / "gts" / "ntidigits"
    x = np.load(recorded / "input.npy").T[:, None]
    expected = np.load(recorded / "output.npy").T
    trace = run("gts/ntidigits/ntidigits.net", x)
    found = trace.spikes["layer4"][:, 0].numpy()
    assert expected.sum() > 20_000
    assert np.array_equal(found[:-4], expected[4:]), "recorded with four steps of latency"
    assert trace.logits.shape == (1, 11), "the average layer votes"


def test_pilotnet_on_the_chip():
    """Spikes and u of every layer as Loihi 2 recorded them; v too, except that its register shows 128 at a spike."""
    recorded = ROOT / "gts" / "pilotnet_lif"
    image = np.load(recorded / "image.npy").transpose(2, 1, 0)[None, None]
    trace = run("gts/pilotnet_lif/network.net", image, 16)
    assert np.array_equal(trace.spikes["layer0"][:, 0].numpy(), maps(np.load(recorded / "input.npy"))[:16])
    layers = {f"conv-{i}": f"layer{i + 1}" for i in range(5)} | {f"fc-{i}": f"layer{i + 7}" for i in range(3)}
    for latency, (file, layer) in enumerate(layers.items(), start=1):
        window = slice(latency, latency + 16)
        spikes = trace.spikes[layer][:, 0].numpy()
        assert np.array_equal(spikes, maps(np.load(recorded / f"{file}.npy"))[window]), layer
        assert np.array_equal(trace.u[layer][:, 0].numpy(), maps(np.load(recorded / f"{file}-u.npy"))[window]), layer
        v = maps(np.load(recorded / f"{file}-v.npy"))[window]
        assert np.all(v[spikes == 1] == 128)
        assert np.array_equal(trace.v[layer][:, 0].numpy()[spikes == 0], v[spikes == 0]), layer
