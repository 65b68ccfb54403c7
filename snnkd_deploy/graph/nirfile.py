"""Read and write `.nir` files: a NIR graph with our profile, checked at the door.

A file without a profile (written by another tool) needs `dt_s` and `reset`, because NIR says neither.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
from pydantic import ValidationError

from snnkd_deploy.errors import GraphError, Problem
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.profile import PROFILE_KEY, PROFILE_VERSION, Encoding, Profile
from snnkd_deploy.graph.topology import NEURONS


def write_nir(model: Model, path: str | Path) -> None:
    """Write atomically: a reader never sees half a file. The profile goes into the graph's metadata."""
    path = Path(path)
    graph = nir.NIRGraph(
        nodes=model.graph.nodes,
        edges=model.graph.edges,
        metadata={**model.graph.metadata, PROFILE_KEY: model.profile.model_dump_json()},
        type_check=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    nir.write(temporary, graph)
    os.replace(temporary, path)


def read_nir(path: str | Path, *, dt_s: float | None = None, reset: str | None = None) -> Model:
    """Read a model.

    `dt_s` (seconds) and `reset` ("zero" or "subtract") are for files without a profile, and are refused
    beside one that says otherwise. Raises GraphError for anything damaged or not understood.
    """
    path = Path(path)
    graph = _read_graph(path)
    text = graph.metadata.get(PROFILE_KEY) if isinstance(graph.metadata, dict) else None
    if text is None:
        profile = _foreign_profile(graph, path, dt_s, reset)
    else:
        profile = parse_profile(text, str(path))
        if (reset is not None and reset != profile.reset) or (dt_s is not None and dt_s != profile.dt_s):
            raise GraphError(
                "--dt or --reset contradicts the file's own profile",
                where=str(path),
                need=f"dt {profile.dt_s:g} s, reset {profile.reset}",
                have=f"dt {dt_s}, reset {reset}",
                remedy="leave both options out: this file says what it means",
            )
    model = Model(graph=graph, profile=profile, path=str(path))
    check_model(model)
    return model


def _read_graph(path: Path) -> nir.NIRGraph:
    if not path.is_file():
        raise GraphError("no such file", where=str(path))
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise GraphError("an HDF5 file, but not a NIR graph (no 'node' group)", where=str(path))
    except OSError as error:
        raise GraphError(f"not a readable HDF5 file: {error}", where=str(path)) from error
    try:
        # Types are checked by our own inference: nir's is wrong for non-square kernels.
        graph = nir.read(path, type_check=False)
    except GraphError:
        raise
    except AssertionError as error:
        raise GraphError(
            f"unknown node type in {_node_types(path)}",
            where=str(path),
            remedy="NIR 1.x primitives are understood",
        ) from error
    except Exception as error:  # nir raises whatever its constructors raise on damaged fields
        raise GraphError(f"NIR cannot read it: {type(error).__name__}: {error}", where=str(path)) from error
    if not isinstance(graph, nir.NIRGraph):
        raise GraphError(f"the file holds a single {type(graph).__name__}, not a graph", where=str(path))
    return graph


def _node_types(path: Path) -> dict[str, str]:
    types: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1] == "type":
            value = item[()]
            types[name] = value.decode() if isinstance(value, bytes) else str(value)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    known = {cls.__name__ for cls in nir.ir.typing.NIRNode.__subclasses__()} if hasattr(nir.ir, "typing") else set()
    return {name: kind for name, kind in types.items() if kind not in known and not hasattr(nir, kind)} or types


def parse_profile(text: Any, where: str) -> Profile:
    """The profile from its JSON text, with a clear word on versions we do not know."""
    if isinstance(text, bytes | np.bytes_):
        text = text.decode()
    try:
        data = json.loads(str(text))
    except json.JSONDecodeError as error:
        raise GraphError(f"the profile in the metadata is not valid JSON: {error}", where=where) from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != PROFILE_VERSION:
        raise GraphError(
            "profile of a version that this release does not know",
            where=where,
            need=f"version {PROFILE_VERSION}",
            have=f"version {version}",
            remedy="upgrade snnkd_deploy, or write the file again with this release",
        )
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        problems = [
            Problem(str(item["msg"]), where=f"{where} [profile.{'.'.join(map(str, item['loc']))}]")
            for item in error.errors(include_url=False)
        ]
        raise GraphError.from_problems(problems) from error


def _foreign_profile(graph: nir.NIRGraph, path: Path, dt_s: float | None, reset: str | None) -> Profile:
    needs_time = any(isinstance(node, (*NEURONS, nir.Delay)) for node in graph.nodes.values())
    if needs_time and (dt_s is None or reset is None):
        missing = " and ".join(name for name, value in (("--dt", dt_s), ("--reset", reset)) if value is None)
        raise GraphError(
            f"a NIR file does not say its timestep or its reset, and this one has no profile: {missing} missing",
            where=str(path),
            remedy="give both, e.g. --dt 1e-4 --reset zero (the values of the tool that wrote the file)",
        )
    if reset not in (None, "zero", "subtract"):
        raise GraphError(f"unknown reset '{reset}'", where="--reset", remedy="zero or subtract")
    if dt_s is not None and not (dt_s > 0 and np.isfinite(dt_s)):
        raise GraphError(f"the timestep must be positive, got {dt_s}", where="--dt", remedy="seconds, e.g. 1e-4")
    return Profile(
        dt_s=dt_s if dt_s is not None else 1e-3,
        reset="subtract" if reset == "subtract" else "zero",
        encoding=Encoding(kind="float"),
        provenance={"source": path.name, "profile": "from the command line"},
    )
