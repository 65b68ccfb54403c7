"""Read and write `.nir` files: a NIR graph with our profile, checked at the door.

A file without a profile (written by another tool) needs `dt_s` and `reset`, because NIR says neither.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
from pydantic import ValidationError

from snnkd_deploy.errors import GraphError, Problem, SnnkdError
from snnkd_deploy.files import replacing
from snnkd_deploy.graph.check import check_model
from snnkd_deploy.graph.hdf5_tree import read_hdf5, sealed
from snnkd_deploy.graph.model import Model
from snnkd_deploy.graph.nirdict import graph_of_tree
from snnkd_deploy.graph.normalise import normalise
from snnkd_deploy.graph.profile import PROFILE_KEY, PROFILE_VERSION, Encoding, Profile
from snnkd_deploy.graph.topology import NEURONS
from snnkd_deploy.graph.ungrouped import GROUPS_KEY, regroup, ungroup

HASH_KEY = "snnkd_deploy_sha256"
_OPTIONS = {"dt_s": "--dt", "reset": "--reset", "fires": "--fires", "v0": "--v0"}


def write_nir(model: Model, path: str | Path) -> None:
    """Write atomically: a reader never sees half a file. The profile goes into the graph's metadata."""
    nodes, groups = ungroup(model.graph.nodes)
    kept = {key: value for key, value in model.graph.metadata.items() if key != GROUPS_KEY}
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=model.graph.edges,
        metadata={
            **kept,
            **groups,
            PROFILE_KEY: model.profile.model_dump_json(),
            HASH_KEY: model.sha256,
        },
        type_check=False,
    )
    content = io.BytesIO()
    nir.write(content, graph)
    with replacing(path) as temporary:
        temporary.write_bytes(sealed(content.getvalue()))


def read_nir(
    path: str | Path,
    *,
    dt_s: float | None = None,
    reset: str | None = None,
    fires: str | None = None,
    v0: float | None = None,
) -> Model:
    """Read a model.

    The options are for files without a profile, which need `dt_s` (seconds) and `reset` ("zero" or "subtract"), and
    may come from a tool that fires at the threshold (`fires` ">=") or starts elsewhere (`v0`). They are refused
    beside a profile that says otherwise. Raises GraphError for anything damaged or not understood.
    """
    path = Path(path)
    graph = _read_graph(path)
    text = graph.metadata.get(PROFILE_KEY) if isinstance(graph.metadata, dict) else None
    given = {"dt_s": dt_s, "reset": reset, "fires": fires, "v0": v0}
    if text is None:
        profile = _foreign_profile(graph, path, given)
    else:
        profile = parse_profile(text, str(path))
        wrong = {k: value for k, value in given.items() if value is not None and value != getattr(profile, k)}
        if wrong:
            raise GraphError(
                f"{', '.join(_OPTIONS[k] for k in wrong)} contradicts the file's own profile",
                where=str(path),
                need=", ".join(f"{_OPTIONS[k]} {getattr(profile, k)}" for k in wrong),
                have=", ".join(f"{_OPTIONS[k]} {value}" for k, value in wrong.items()),
                remedy="leave it out: this file says what it means",
            )
    model = Model(graph=graph, profile=profile, path=str(path))
    check_model(model)
    stored = graph.metadata.get(HASH_KEY)
    if text is not None and stored is not None and stored != model.sha256:
        raise GraphError(
            "the graph and its profile do not belong together: the file was damaged or edited",
            where=str(path),
            remedy=f"write it again; after an edit on purpose, delete '{HASH_KEY}' from its metadata",
        )
    return model


def _read_graph(path: Path) -> nir.NIRGraph:
    tree = read_hdf5(path)
    if not isinstance(tree.get("node"), dict):
        raise GraphError("an HDF5 file, but not a NIR graph (no 'node' group)", where=str(path))
    _check_version(tree, path)
    try:
        graph = normalise(graph_of_tree(tree["node"], str(path)))
        regroup(graph, str(path))
        return graph
    except SnnkdError as error:
        problems = [p if str(path) in p.where else replace(p, where=f"{path} [{p.where}]") for p in error.problems]
        raise GraphError.from_problems(problems) from error


def _check_version(tree: dict[str, Any], path: Path) -> None:
    """NIR writes its release and never looks at it; another major release may mean other things."""
    if "version" not in tree:
        return
    text = str(tree["version"])
    if text.split(".")[0] not in ("0", "1"):
        raise GraphError(
            "written by a NIR release that we do not know",
            where=str(path),
            need="NIR 0.x or 1.x",
            have=f"'{text}'",
            remedy="upgrade snnkd_deploy, or export with nir 1.x",
        )


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


def _foreign_profile(graph: nir.NIRGraph, path: Path, given: dict[str, Any]) -> Profile:
    dt_s, reset, fires, v0 = given["dt_s"], given["reset"], given["fires"], given["v0"]
    needs_time = any(isinstance(node, (*NEURONS, nir.Delay)) for node in graph.nodes.values())
    if needs_time and (dt_s is None or reset is None):
        missing = " and ".join(name for name, value in (("--dt", dt_s), ("--reset", reset)) if value is None)
        raise GraphError(
            f"a NIR file does not say its timestep or its reset, and this one has no profile: {missing} missing",
            where=str(path),
            remedy="both, as the tool that wrote the file has them: --dt 1e-4 --reset zero, or dt_s=1e-4, reset='zero'",
        )
    if reset not in (None, "zero", "subtract"):
        raise GraphError(f"unknown reset '{reset}'", where="--reset", remedy="zero or subtract")
    if fires not in (None, ">", ">="):
        raise GraphError(f"unknown comparison '{fires}'", where="--fires", remedy="'>' or '>='")
    if dt_s is not None and not (dt_s > 0 and np.isfinite(dt_s)):
        raise GraphError(f"the timestep must be positive, got {dt_s}", where="--dt", remedy="seconds, e.g. 1e-4")
    if v0 is not None and not np.isfinite(v0):
        raise GraphError(f"the membrane must start at a number, got {v0}", where="--v0")
    return Profile(
        dt_s=dt_s if dt_s is not None else 1e-3,
        reset="subtract" if reset == "subtract" else "zero",
        fires=">=" if fires == ">=" else ">",
        v0=v0 or 0.0,
        encoding=Encoding(kind="float"),
        provenance={"source": path.name, "profile": "from the command line"},
    )
