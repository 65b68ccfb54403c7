"""Our own group in a `.net` file: what netx cannot say, so that reading gives the same model back.

netx ignores groups beside `/layer`. Ours holds one JSON text (profile, nodes, edges) and the few arrays that do
not follow from the layers, such as the weights of a first layer that the host computes. Weights that do follow
are not stored twice: the text names the layer and the scale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np

from snnkd_deploy.errors import GraphError
from snnkd_deploy.graph.check import UNDERSTOOD, check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.net_layers import NetLayer
from snnkd_deploy.graph.netfile_write import layers_of_model, weights_in_layers
from snnkd_deploy.graph.nirfile import parse_profile

GROUP = "snnkd_deploy"
FORMAT = 1
_TYPES = {cls.__name__: cls for cls in UNDERSTOOD}
_NOT_STORED = ("metadata", "output_type")


def write_profile(group: h5py.Group, model: Model) -> None:
    """Store everything of `model` that the layers do not hold."""
    arrays: list[np.ndarray] = []
    known = weights_in_layers(model)
    nodes = {}
    for name, node in model.nodes.items():
        fields = {}
        for key, value in vars(node).items():
            if key in _NOT_STORED or (key == "input_type" and not isinstance(node, nir.Input | nir.Flatten)):
                continue
            fields[key] = _encode(value, arrays, known.get(name) if key == "weight" else None)
        if isinstance(node, nir.Output):
            fields["output_type"] = _encode(node.output_type, arrays, None)
        nodes[name] = {"type": type(node).__name__, "fields": fields}
    text = {
        "format": FORMAT,
        "profile": model.profile.model_dump_json(),
        "nodes": nodes,
        "edges": [list(edge) for edge in model.graph.edges],
        "sha256": model.sha256,
    }
    group.create_dataset("model", data=json.dumps(text))
    for i, array in enumerate(arrays):
        group.create_dataset(f"array/{i}", data=array, compression="gzip" if array.size > 64 else None)


@dataclass
class StoredModel:
    """Our group as read, to be joined with the layers."""

    text: dict[str, Any]
    arrays: list[np.ndarray] = field(default_factory=list)

    def restore(self, layers: list[NetLayer], path: Path) -> Model:
        """The model that was written. Raises GraphError where the layers say something else by now."""
        where = str(path)
        try:
            nodes = {name: self._node(entry, layers) for name, entry in self.text["nodes"].items()}
            edges = [(str(a), str(b)) for a, b in self.text["edges"]]
            text = self.text["profile"]
            expected = self.text["sha256"]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
            what = f"our part of the file is damaged: {type(error).__name__}: {error}"
            raise GraphError(what, where=where) from error
        graph = nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)
        model = Model(graph=graph, profile=parse_profile(text, where), path=where)
        check_model(model)
        if model.sha256 != expected or _differ(layers_of_model(model), layers):
            raise GraphError(
                "the layers and our profile beside them do not belong together: one was damaged or edited",
                where=where,
                remedy=f"write the file again, or delete its group /{GROUP} to read it as plain netx does",
            )
        return model

    def _node(self, entry: dict[str, Any], layers: list[NetLayer]) -> nir.NIRNode:
        fields = {key: self._decode(value, layers) for key, value in entry["fields"].items()}
        return _TYPES[entry["type"]](**fields)

    def _decode(self, value: dict[str, Any], layers: list[NetLayer]) -> Any:
        if "value" in value:
            plain = value["value"]
            return tuple(plain) if isinstance(plain, list) else plain
        if "dict" in value:
            return {key: self._decode(item, layers) for key, item in value["dict"].items()}
        if "filled" in value:
            return np.full(value["shape"], value["filled"], dtype=value["dtype"])
        if "layer" in value:
            weight = getattr(layers[value["layer"]], value["key"])
            return (weight / value["scale"]).reshape(value["shape"])
        return self.arrays[value["array"]]


def read_profile(group: Any, where: str) -> StoredModel:
    """Our group of an open file. Raises GraphError where it is damaged or of a later release."""
    if not isinstance(group, dict) or not isinstance(group.get("model"), str):
        raise GraphError("our part of the file is damaged: no text", where=f"{where} [/{GROUP}]")
    try:
        text = json.loads(group["model"])
    except json.JSONDecodeError as error:
        raise GraphError(f"our part of the file is not valid JSON: {error}", where=f"{where} [/{GROUP}]") from error
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        raise GraphError(
            "our part of the file is of a format that this release does not know",
            where=f"{where} [/{GROUP}]",
            need=f"format {FORMAT}",
            have=f"format {text.get('format') if isinstance(text, dict) else '?'}",
            remedy="upgrade snnkd_deploy",
        )
    arrays = group.get("array", {})
    return StoredModel(text, [np.asarray(arrays.get(str(i))) for i in range(len(arrays))])


def _encode(value: Any, arrays: list[np.ndarray], layer: dict[str, Any] | None) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"dict": {key: _encode(item, arrays, None) for key, item in value.items()}}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, np.ndarray):
        if layer is not None and np.array_equal((layer["weight"] / layer["scale"]).reshape(value.shape), value):
            return {key: layer[key] for key in ("layer", "key", "scale")} | {"shape": list(value.shape)}
        first = value.ravel()[0].item() if value.size else 0
        if value.size and value.dtype.kind in "iuf" and np.all(value == first):
            return {"filled": first, "shape": list(value.shape), "dtype": value.dtype.str}
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple | list):
        value = [item.item() if isinstance(item, np.generic) else item for item in value]
    return {"value": value}


def _differ(expected: list[NetLayer], found: list[NetLayer]) -> bool:
    if len(expected) != len(found):
        return True
    for a, b in zip(expected, found, strict=True):
        for key in ("kind", "shape", "neuron", "stride", "padding", "dilation", "groups"):
            if getattr(a, key) != getattr(b, key):
                return True
        for key in ("weight", "weight_rec", "bias", "delay"):
            left, right = getattr(a, key), getattr(b, key)
            if (left is None) != (right is None) or (left is not None and not np.array_equal(left, right)):
                return True
    return False
