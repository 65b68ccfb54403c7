"""Run a small net on SANA-FE's Loihi and print its counters. Started by a test in another interpreter.

Needs nothing of this package (SANA-FE is GPL-3: files and processes only). Reads JSON from stdin:
groups {name: {neurons: [[x, y, core of tile], ...], spikes: [[step, ...], ...] for inputs, threshold}},
edges [{source, target, synapse, pairs: [[i, j], ...], weights: [...]}], steps.
"""

import json
import sys

import sanafe

HEIGHT = 4  # tiles are numbered down the columns of the 8 x 4 mesh


def main() -> None:
    job = json.load(sys.stdin)
    arch = sanafe.load_loihi()
    net = sanafe.Network()
    groups = {}
    input_units: dict[tuple[int, int, int], int] = {}
    for name, group in job["groups"].items():
        # The unit that processes a spike is chosen by the neuron that receives it.
        unit = next((e["synapse"] for e in job["edges"] if e["target"] == name), "")
        made = net.create_neuron_group(name, len(group["neurons"]), default_synapse_hw_name=unit)
        groups[name] = made
        for i, (x, y, core) in enumerate(group["neurons"]):
            neuron = made[i]
            if "spikes" in group:
                unit = input_units.get((x, y, core), 0)
                input_units[(x, y, core)] = unit + 1
                neuron.set_attributes(
                    soma_hw_name=f"loihi_inputs[{unit}]",
                    log_spikes=True,
                    model_attributes={"spikes": [int(s) for s in group["spikes"][i]]},
                )
            else:
                neuron.set_attributes(
                    soma_hw_name="loihi_lif",
                    log_spikes=True,
                    model_attributes={
                        "threshold": group["threshold"],
                        "leak_decay": 1.0,
                        "reset_mode": "soft",
                        "force_update": True,
                    },
                )
            neuron.map_to_core(arch.tiles[x * HEIGHT + y].cores[core])
    for edge in job["edges"]:
        source, target = groups[edge["source"]], groups[edge["target"]]
        source.connect_neurons_sparse(target, {"weight": edge["weights"]}, [tuple(p) for p in edge["pairs"]])
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    found = chip.sim(job["steps"], timing_model="simple", spike_trace=True)
    trace = found.pop("spike_trace")
    # Rows hold the addresses of the neurons that fired in a step.
    spikes = [[str(address) for address in row] for row in trace]
    print(json.dumps({"result": found, "spikes": spikes}, default=str))


main()
