"""Wrong uses of the command line: each gives one error that names what and where, and something to try."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from chip_models import Net

from snnkd_deploy.cli import main
from snnkd_deploy.graph.nirfile import write_nir

# Words after {tmp} are files of the workshop below.
X = "--input {tmp}/x.npz"
SIMULATE = "simulate {tmp}/m.nir -o {tmp}/out.npz --input {tmp}/"
RUN = "run {tmp}/good.toml --out {tmp}/run "

CASES = {
    # the call itself
    "no such verb": ("evalute d", "unknown verb 'evalute'", "did you mean evaluate?"),
    "no such option": ("run r.toml --outt d", "--outt", "did you mean --out?"),
    "option without its value": ("chips --json loihi2 --out", "--out", "snnkd chips --help"),
    "missing argument": ("fit {tmp}/m.nir", "--chip", "snnkd fit --help"),
    "unknown chip": ("fit {tmp}/m.nir --chip loihi3", "unknown chip 'loihi3'", "did you mean loihi"),
    "missing chip file": ("chips {tmp}/none.toml", "none.toml", "loihi2"),
    "chip file that is none": ("chips {tmp}/good.toml", "good.toml", "hardware/README.md"),
    "unknown backend": (SIMULATE + "x.npz --backend exakt", "unknown backend 'exakt'", "did you mean exact?"),
    "override without a value": (RUN + "width", "'width' is not key=value", "e.g. student.width"),
    "override into a value": (RUN + "data.options.limit_train.x=1", "limit_train", "is not a section"),
    # recipes
    "no recipe": ("run {tmp}/none.toml", "no such recipe", "snnkd new"),
    "a folder as recipe": ("run {tmp}", "no such recipe", "snnkd new"),
    "broken TOML": ("run {tmp}/broken.toml", "not valid TOML", "line 1"),
    "binary recipe": ("run {tmp}/x.npz", "not valid TOML", "x.npz"),
    "unknown key": (RUN + "train.epoch=1", "[train.epoch]", "did you mean epochs?"),
    "unknown section": (RUN + "studnt.width=1", "[studnt]", "did you mean student?"),
    "truth value as number": (RUN + "train.epochs=true", "[train.epochs]", "integer"),
    "text as number": (RUN + 'train.lr="fast"', "[train.lr]", "number"),
    "number as truth value": (RUN + "train.mixed=1", "[train.mixed]", "boolean"),
    "zero epochs": (RUN + "train.epochs=0", "[train.epochs]", "greater than or equal to 1"),
    "unknown choice": (RUN + "student.encoding=curent", "[student.encoding]", "did you mean current?"),
    "value for a section": (RUN + "student=3", "[student]", "section"),
    "name with a slash": (RUN + "name=a/b", "[name]", "folder"),
    "name with a line break": (RUN + 'name="a\\nb"', "[name]", "folder"),
    "a leak that is no word of ours": (RUN + "student.leak=chp", "[student.leak]", "number or chip"),
    "a leak beyond one": (RUN + "student.leak=2.0", "[student.leak]", "equal to 1 or chip"),
    "worker of a misspelt backend": (RUN + "validate.workers.lva=python3", "validate.workers.lva", "need one of"),
    "unset worker of a recipe": (RUN + 'validate.workers.lava=""', "validate.workers.lava", "empty"),
    "unknown method": (RUN + "method=seel", "seel", "seal"),
    "unknown option of a method": (RUN + "loss.seal.alhpa=1.0", "alhpa", "alpha"),
    "wrong option of a method": (RUN + 'loss.seal.alpha="x"', "loss.seal.alpha", "a number"),
    "unknown student": (RUN + "student.net=conf", "unknown student 'conf'", "did you mean conv?"),
    "unknown teacher": (RUN + "teacher.net=resnet81", "unknown teacher 'resnet81'", "did you mean resnet19?"),
    "option of another student": (RUN + "student.options.hidden=[3]", "student.options.hidden", "channels"),
    "strides of zero": (RUN + "student.options.strides=[0,2,2]", "student.options.strides", "1..16"),
    "strides and channels": (RUN + "student.options.strides=[1]", "student.options.strides", "need 3"),
    "absurd width": (RUN + "student.width=1e6", "[student.width]", "64"),
    "width beyond memory": (RUN + "student.net=resnet18 student.width=64", "student.width", "memory"),
    "options of a plain teacher": (RUN + "teacher.options.depth=3", "teacher.options.depth", "teacher.width"),
    "missing teacher file": (RUN + "teacher.net=none.py:big", "none.py", "beside the recipe"),
    "missing weights": (RUN + "teacher.weights=w.pt", "w.pt", "a local file"),
    "weights that are none": (RUN + "teacher.weights={tmp}/x.npz", "x.npz", "safetensors"),
    "teacher's own code fails": (RUN + "teacher.net={tmp}/nets.py:fails", "ZeroDivisionError", "line 2"),
    "no such function": (RUN + "teacher.net={tmp}/nets.py:falls", "no function 'falls'", "fails"),
    "max pooling on Loihi": (RUN + "student.pool=max", "max pooling", "stride"),
    "attention on Loihi": (RUN + "student.net=spikformer", "spikformer", "resnet18"),
    "events of images": (RUN + "student.encoding=events", "student.encoding", "current"),
    "graded spikes on Loihi 1": (
        RUN + "chip=loihi1 student.encoding=graded",
        "cannot send a value",
        "student.encoding",
    ),
    "maps of an mlp": (RUN + "method=ckd student.net=mlp", "feature maps", "seal"),
    "recurrence on the host": (RUN + "student.net=rnn method=seal", "cannot hear itself", "graded"),
    "unknown surrogate": (RUN + "student.surrogate=sigmoid", "student.surrogate", "sigmoid4"),
    "unknown augmentation": (RUN + 'train.augment=["filp"]', "train.augment", "flip"),
    "no such GPU": (RUN + "train.device=cuda:99", "train.device", "cpu"),
    "no such device": (RUN + "train.device=gpu", "train.device", "cuda"),
    # data
    "unknown data set": (RUN + "data.name=cifar", "unknown data set 'cifar'", "cifar10"),
    "unknown option of data": (RUN + "data.options.limit_trian=9", "data.options.limit_trian", "limit_train"),
    "negative limit": (RUN + "data.options.limit_train=-1", "data.options.limit_train", ">= 0"),
    "no folder of data": (RUN + "--data {tmp}/none data.name=mnist", "none", "correct --data"),
    "data not found in it": (
        RUN + "--data {tmp}/empty data.name=dvs-gesture",
        "dvs-gesture was not found",
        "SNNKD_DATA",
    ),
    "own file is missing": (RUN + "data.name=series-npz data.options.file=none.npz", "none.npz", "--data"),
    "own file is not named": (RUN + "data.name=images-npz", "images-npz", "option file"),
    "own file has no labels": (RUN + "data.name=images-npz data.options.file={tmp}/x.npz", "no labels", "need y"),
    "new: nothing there": ("new {tmp}/none", "no such file, folder or data set", "fashion-mnist"),
    "new: empty folder": ("new {tmp}/empty -o {tmp}/n.toml", "no data found", "sub-folder"),
    "new: text file": ("new {tmp}/good.toml -o {tmp}/n.toml", "not an .npz", "np.savez"),
    "new: misspelt set": ("new fashon-mnist -o {tmp}/n.toml", "fashon-mnist", "did you mean fashion-mnist?"),
    # run directories
    "no run directory": ("evaluate {tmp}/none", "not a run directory", "snnkd run"),
    "stage before its time": ("export {tmp}/begun", "'teacher', which has not run", "snnkd teacher"),
    "damaged manifest": ("teacher {tmp}/harmed", "manifest is damaged", "delete it"),
    "report of nothing": ("report --compare {tmp}/begun {tmp}/begun -o {tmp}/c.html", "no report.json", "snnkd report"),
    "damaged report": ("report --compare {tmp}/harmed {tmp}/begun -o {tmp}/c.html", "damaged", "snnkd report"),
    "run into a file": ("run {tmp}/good.toml --out {tmp}/x.npz/run", "x.npz/run", "cannot write"),
    # models and inputs
    "no model": (f"simulate {{tmp}}/none.nir {X} -o {{tmp}}/o.npz", "none.nir", "no such"),
    "model that is none": (f"simulate {{tmp}}/x.npz {X} -o {{tmp}}/o.npz", "x.npz", ".nir"),
    "damaged model": (f"simulate {{tmp}}/cut.nir {X} -o {{tmp}}/o.npz", "cut.nir", ""),
    "a folder as model": (f"simulate {{tmp}}/folder.nir {X} -o {{tmp}}/o.npz", "folder.nir", "a folder"),
    "damaged ONNX": (f"simulate {{tmp}}/cut.onnx {X} -o {{tmp}}/o.npz", "cut.onnx", "export it again"),
    "unknown kind of model": ("convert {tmp}/m.nir {tmp}/m.txt", "m.txt", ".nir"),
    "no input": (SIMULATE + "none.npz", "no such input file", "np.savez"),
    "a plain array": (SIMULATE + "x.npy", "not an .npz", "np.savez"),
    "no archive": (SIMULATE + "noise.npz", "no archive of arrays", "np.savez"),
    "text in the archive": (SIMULATE + "letter.npz", "no array: x", "np.savez"),
    "no x": (SIMULATE + "no_x.npz", "no array 'x'", "x (T, B, ...)"),
    "wrong shape": (SIMULATE + "shape.npz", "(T, B, 6)", "time first"),
    "values out of range": (SIMULATE + "range.npz", "out of range", "0..1"),
    "NaN": (SIMULATE + "nan.npz", "NaN", "[x]"),
    "fractions": (SIMULATE + "fractions.npz", "fractions", "integers"),
    "text": (SIMULATE + "text.npz", "must hold numbers", "[x]"),
    "no samples": (SIMULATE + "none_in_it.npz", "no samples", "[x]"),
    "T of zero": (SIMULATE + "T0.npz", "[T]", "1.."),
    "T of 2.7": (SIMULATE + "T27.npz", "[T]", "one integer"),
    "T of a list": (SIMULATE + "T_list.npz", "[T]", "one integer"),
    "T of a billion": (SIMULATE + "T_big.npz", "[T]", "1,000,000,000"),
    "T that is not x's": (SIMULATE + "T9.npz", "[T]", "need 4"),
    "labels NaN": (SIMULATE + "y_nan.npz", "[y]", "integers"),
    "labels of text": (SIMULATE + "y_text.npz", "[y]", "integers"),
    "labels out of range": (SIMULATE + "y_range.npz", "[y]", "0..2"),
    "labels of others": (SIMULATE + "y_count.npz", "[y]", "(5,)"),
    "output is a folder": (f"simulate {{tmp}}/m.nir {X} -o {{tmp}}", "a folder", "NAME"),
    "output below a file": (f"simulate {{tmp}}/m.nir {X} -o {{tmp}}/x.npz/o.npz", "cannot write there", "x.npz/o.npz"),
    "output is the model": (f"simulate {{tmp}}/m.nir {X} -o {{tmp}}/m.nir", "m.nir", "would replace"),
    "output is the input": (f"simulate {{tmp}}/m.nir {X} -o {{tmp}}/x.npz", "x.npz", "would replace"),
    "converted onto itself": ("convert {tmp}/m.nir {tmp}/link.nir", "link.nir", "would replace"),
    "drawn over the model": ("show {tmp}/m.nir --svg {tmp}/m.nir", "m.nir", "would replace"),
    "lowered onto itself": ("lower {tmp}/m.nir --chip loihi2 -o {tmp}/m.nir", "m.nir", "would replace"),
    "lowered to text": ("lower {tmp}/m.nir --chip loihi2 -o {tmp}/o.txt", "cannot write '.txt'", ".nir"),
    "no samples at once": (SIMULATE + "x.npz --chunk 0", "--chunk", "1 or more"),
    "worker of an unknown backend": (SIMULATE + "x.npz --worker exakt=python3", "unknown backend", "mean exact?"),
    "worker of an unset variable": (SIMULATE + "x.npz --worker exact=", "--worker", "empty"),
    "worker with half a quotation": (SIMULATE + "x.npz --worker py'thon", "not a command line", "quotation"),
    "worker of another backend": (SIMULATE + "x.npz --worker lava=python3", "no backend 'lava'", "need one of exact"),
    "worker that is not there": (SIMULATE + "x.npz --worker no-such-program", "cannot start", "by hand"),
    # traces
    "no trace": ("compare {tmp}/none.npz {tmp}/t.npz", "no such trace", "snnkd simulate"),
    "trace that is none": ("compare {tmp}/x.npz {tmp}/t.npz", "not a trace", "snnkd simulate"),
    "one trace only": ("compare {tmp}/t.npz", "two traces", "snnkd compare"),
    "two traces and backends": ("compare {tmp}/m.nir {tmp}/t.npz --backends exact,float", "not both", "snnkd compare"),
    "one backend only": (f"compare {{tmp}}/m.nir --backends exact {X}", "at least two", "snnkd backends"),
    "one backend twice": (f"compare {{tmp}}/m.nir --backends exact,exact {X}", "two different", "snnkd backends"),
    "a model as trace": ("compare {tmp}/m.nir {tmp}/t.npz", "a model, not a trace", "--backends exact,lava"),
    "half spikes": ("compare {tmp}/t.npz {tmp}/t_half.npz", "[spikes/lif]", "whole numbers from 0"),
    "spikes below zero": (
        f"energy {{tmp}}/m.nir --chip loihi1 --trace {{tmp}}/t_below.npz {X}",
        "[spikes/lif]",
        "whole numbers from 0",
    ),
    "energy of other inputs": (
        "energy {tmp}/m.nir --chip loihi1 --trace {tmp}/t.npz --input {tmp}/fewer.npz",
        "different lengths or batch sizes",
        "recorded with",
    ),
    "reproducer into a file": (
        f"compare {{tmp}}/t.npz {{tmp}}/t.npz --model {{tmp}}/m.nir {X} --reproducer {{tmp}}/x.npz",
        "x.npz",
        "cannot write there",
    ),
    "trace of other samples": ("compare {tmp}/t.npz {tmp}/t_uneven.npz", "not a trace", "snnkd simulate"),
    "layer of another size": (
        f"energy {{tmp}}/m.nir --chip loihi1 --trace {{tmp}}/t_size.npz {X}",
        "[spikes/lif]",
        "need (8,)",
    ),
    "energy of another model": (
        "energy {tmp}/other.nir --chip loihi2 --trace {tmp}/t.npz",
        "another model",
        "simulate",
    ),
}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Models, inputs, recipes and run directories, good ones and one of each kind of damage."""
    tmp = tmp_path_factory.mktemp("workshop")
    for name, seed in (("m", 0), ("other", 1)):
        net = Net((6,), seed=seed)
        net.readout(
            "readout",
            net.dense("fc1", net.lif("lif", net.dense("fc0", "input", net.weights((8, 6)))), net.weights((3, 8))),
        )
        write_nir(net.model("readout", classes=("a", "b", "c")), tmp / f"{name}.nir")
    (tmp / "cut.nir").write_bytes((tmp / "m.nir").read_bytes()[:2000])
    (tmp / "folder.nir").mkdir()
    (tmp / "link.nir").symlink_to(tmp / "m.nir")
    (tmp / "cut.onnx").write_bytes(b"\x08\x07\x12\x40cut")
    (tmp / "noise.npz").write_bytes(bytes(range(256)))
    with zipfile.ZipFile(tmp / "letter.npz", "w") as archive:
        archive.writestr("x.npy", "hello")
    x = np.random.default_rng(0).integers(0, 2, (4, 5, 6)).astype(np.uint8)
    np.save(tmp / "x.npy", x)
    arrays = {
        "x": {"x": x},
        "no_x": {"X": x},
        "fewer": {"x": x[:, :3]},
        "shape": {"x": x[..., :5]},
        "range": {"x": x * 7},
        "nan": {"x": np.where(x == 1, np.nan, 0.0)},
        "fractions": {"x": x * 0.5},
        "text": {"x": x.astype(str)},
        "none_in_it": {"x": x[:, :0]},
        "T0": {"x": x, "T": np.array(0)},
        "T27": {"x": x, "T": np.array(2.7)},
        "T_list": {"x": x, "T": np.array([2, 3])},
        "T_big": {"x": x[:1], "T": np.array(10**9)},
        "T9": {"x": x, "T": np.array(9)},
        "y_nan": {"x": x, "y": np.full(5, np.nan)},
        "y_text": {"x": x, "y": np.array(list("abcab"))},
        "y_range": {"x": x, "y": np.arange(5)},
        "y_count": {"x": x, "y": np.zeros(4, int)},
    }
    for name, content in arrays.items():
        np.savez(tmp / f"{name}.npz", **content)
    assert main(["simulate", str(tmp / "m.nir"), "--input", str(tmp / "x.npz"), "-o", str(tmp / "t.npz")]) == 0
    with np.load(tmp / "t.npz") as file:
        trace = dict(file)
    np.savez(tmp / "t_uneven.npz", **trace | {"logits": trace["logits"][:2]})
    np.savez(tmp / "t_size.npz", **trace | {"spikes/lif": trace["spikes/lif"][..., :3]})
    np.savez(tmp / "t_half.npz", **trace | {"spikes/lif": trace["spikes/lif"] * 0.5})
    np.savez(tmp / "t_below.npz", **trace | {"spikes/lif": -trace["spikes/lif"].astype(np.int8)})
    (tmp / "good.toml").write_text('[data.options]\nlimit_train = 60\n[validate]\nbackends = ["exact"]\n')
    (tmp / "broken.toml").write_text("name = \n")
    (tmp / "nets.py").write_text("def fails():\n    return 1 / 0\n")
    for name in ("empty", "begun", "harmed"):
        (tmp / name).mkdir()
    for name in ("begun", "harmed"):
        (tmp / name / "recipe.toml").write_text((tmp / "good.toml").read_text())
    (tmp / "harmed" / "manifest.json").write_text("[1]")
    (tmp / "harmed" / "report.json").write_text("{}")
    return tmp


@pytest.mark.parametrize("case", CASES)
def test_one_error_with_a_remedy(case, workshop, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text, *expected = CASES[case]
    before = {p: p.stat().st_mtime_ns for p in workshop.rglob("*")}
    code = main([word.replace("{tmp}", str(workshop)) for word in text.split(" ") if word])
    out, err = capsys.readouterr()
    assert code in (1, 2), (code, err)
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in err, err
    for part in expected:
        assert part in err, (part, err)
    assert "\n  try: " in err or "need " in err, f"no remedy: {err}"
    left = {p for p in workshop.rglob("*") if p not in before and p.name != ".lock"}
    assert not left, f"it left {left}"
    changed = {
        p for p, time in before.items() if p.is_file() and p.name != "recipe.toml" and p.stat().st_mtime_ns != time
    }
    assert not changed, f"it changed {changed}"


def test_there_are_many():
    assert len(CASES) >= 40


@pytest.mark.parametrize("steps", [0, -1, 3, 10**9])
def test_steps_of_the_library_must_be_those_of_the_inputs(workshop, steps):
    import snnkd_deploy as sd
    from snnkd_deploy.backends.inputs import make_inputs
    from snnkd_deploy.errors import DataError

    model, x = sd.load_model(workshop / "m.nir"), np.load(workshop / "x.npy")
    for given in (x, make_inputs(x, model)):
        with pytest.raises(DataError):
            sd.run(model, given, steps=steps)
    assert sd.run(model, x, steps=4).samples == 5


def test_options_and_overrides_in_any_order(workshop, capsys):
    words = ["run", "--quiet", str(workshop / "good.toml"), "train.epochs=true", "--out", "d", "student.widht=1"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "[train.epochs]" in err and "[student.widht]" in err


def test_exit_codes_of_compare(workshop, tmp_path, capsys):
    t = workshop / "t.npz"
    with np.load(t) as file:
        arrays = dict(file)
    arrays["spikes/lif"] = 1 - arrays["spikes/lif"]
    np.savez(tmp_path / "other.npz", **arrays)
    assert main(["compare", str(t), str(t)]) == 0
    assert main(["compare", str(t), str(tmp_path / "other.npz")]) == 1
    assert main(["compare", str(t), str(tmp_path / "none.npz")]) == 2
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "not equal" in capsys.readouterr().out


def test_energy_on_all_chips(workshop, capsys):
    words = ["energy", str(workshop / "m.nir"), "--chip", "all", "--trace", str(workshop / "t.npz"), "--json"]
    words += ["--input", str(workshop / "x.npz")]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["chips"]
    assert {"loihi1", "loihi2"} <= set(found) and found["loihi1"]["energy_j"]["mid"] > 0


def test_no_memory_and_no_space_are_errors_not_tracebacks(monkeypatch, capsys):
    import snnkd_deploy.chips as chips

    for error, part in (
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device", "/x"), "/x: No space left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
    ):
        monkeypatch.setattr(chips, "list_chips", lambda error=error: (_ for _ in ()).throw(error))
        assert main(["chips"]) == 1
        err = capsys.readouterr().err
        assert part in err and "try:" in err and "Traceback" not in err


def test_commands_in_remedies_exist():
    """Every `snnkd VERB --option` that the sources mention is one."""
    import re

    import snnkd_deploy
    from snnkd_deploy.cli import build_parser, verbs_of

    verbs = verbs_of(build_parser())
    root = Path(snnkd_deploy.__file__).parent
    texts = [
        p.read_text("utf-8") for p in (*root.rglob("*.py"), *root.parent.glob("*.md"), *root.parent.glob("docs/*.md"))
    ]
    calls = [call for text in texts for call in re.findall(r"(?<![\w.])snnkd ([a-z]+)([^`\"\n#;(),]*)", text)]
    assert len(calls) > 30
    for verb, rest in calls:
        assert verb in verbs, f"snnkd {verb}{rest}"
        known = verbs[verb]._option_string_actions
        for option in re.findall(r"(?<=\s)-{1,2}[a-z][a-z-]*", rest):
            assert option in known, f"snnkd {verb}{rest}: {option}"
