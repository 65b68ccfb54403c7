"""Teachers that others built: which give maps, which weights they take, and what is refused in which words."""

import importlib
import importlib.util

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snnkd_deploy.errors import DataError, UsageError
from snnkd_deploy.nets.teachers import TeacherPlan, build_teacher

USER = """
from torch import nn

class Pooled(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True))
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(6, classes)

    def forward(self, x):
        return self.fc(self.drop(self.body(x).mean((2, 3))))

def pooled(classes=5):
    return Pooled(classes)

def flat():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 5))

def nothing():
    return 3
"""


@pytest.fixture
def user(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USER)
    return lambda function: f"{path}:{function}"


def plan(net, **kwargs):
    return TeacherPlan(net, (1, 8, 8), 5, 16, **kwargs)


def images(n=4):
    return torch.randint(0, 17, (n, 1, 8, 8), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("net", ["cnn", "resnet18", "resnet19", "resnet20", "resnet34"])
def test_own_teachers_are_maps_then_mean_then_linear(net):
    teacher = build_teacher(plan(net, width=0.1)).eval()
    with torch.no_grad():
        logits, maps = teacher.answer(images(), True)
        assert logits.shape == (4, 5) and maps.dim() == 4
        torch.testing.assert_close(teacher(images()), logits)
        torch.testing.assert_close(maps.mean((2, 3)) @ teacher.classifier.weight.T + teacher.classifier.bias, logits)


def test_a_users_module_with_a_pooled_end_gives_maps(user):
    teacher = build_teacher(plan(user("pooled"), mean=(0.5,), std=(0.25,))).eval()
    assert teacher.gives_features
    with torch.no_grad():
        logits, maps = teacher.answer(images(), True)
        assert maps.shape == (4, 6, 8, 8) and float(maps.min()) >= 0
        torch.testing.assert_close(teacher.classifier(maps.mean((2, 3))), logits)
        torch.testing.assert_close(teacher.network((images() / 16 - 0.5) / 0.25), logits)
    # The classifier is counted once, and training reaches everything.
    assert len(list(teacher.parameters())) == 4
    assert teacher.network.fc is teacher.classifier


def test_another_build_gives_logits_only(user):
    teacher = build_teacher(plan(user("flat")))
    assert not teacher.gives_features
    assert teacher.answer(images(), False)[0].shape == (4, 5)


def test_weights_of_both_kinds(user, tmp_path):
    teacher = build_teacher(plan(user("pooled")))
    state = {k: torch.randn_like(v) for k, v in teacher.network.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "lightning.ckpt")
    for name in ("w.safetensors", "w.pt", "lightning.ckpt"):
        found = build_teacher(plan(user("pooled"), weights=str(tmp_path / name))).network.state_dict()
        assert all(torch.equal(found[k], state[k]) for k in state), name


def test_pickled_code_is_never_run(user, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")  # a whole module, not a state_dict
    with pytest.raises(DataError, match="not a plain state_dict"):
        build_teacher(plan(user("pooled"), weights=str(tmp_path / "whole.pt")))


def test_what_does_not_fit_is_said_plainly(user, tmp_path):
    with pytest.raises(UsageError, match="one logit a class"):
        build_teacher(plan(user("pooled"), options={"classes": 7}))
    with pytest.raises(UsageError, match="must return an"):
        build_teacher(plan(user("nothing")))
    with pytest.raises(UsageError, match="no function 'pooledd'") as caught:
        build_teacher(plan(user("pooledd")))
    assert "pooled" in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        build_teacher(plan("nowhere.py:f"))
    with pytest.raises(DataError, match="no such file"):
        build_teacher(plan(user("pooled"), weights="nowhere.pt"))
    with pytest.raises(UsageError, match="did you mean resnet"):
        build_teacher(plan("resnet81"))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_library_teachers(library):
    net = f"{library}:resnet18"
    if importlib.util.find_spec(library) is None:
        with pytest.raises(UsageError, match=f"{library} is not installed"):
            build_teacher(TeacherPlan(net, (3, 32, 32), 5, 255))
        return
    try:
        importlib.import_module("torchvision")  # timm needs it too
    except Exception as error:
        with pytest.raises(UsageError, match="not usable here"):
            build_teacher(TeacherPlan(net, (3, 32, 32), 5, 255))
        pytest.skip(f"torchvision does not belong to this torch: {error}")
    teacher = build_teacher(TeacherPlan(net, (3, 64, 64), 5, 255))
    assert teacher.gives_features and teacher.classifier.in_features == 512


def test_onnx_gives_logits_only(tmp_path):
    if importlib.util.find_spec("onnxruntime") is None:
        with pytest.raises(UsageError, match="onnxruntime is not installed"):
            build_teacher(plan("teacher.onnx"))
        pytest.skip("onnxruntime is not installed")
    onnx = pytest.importorskip("onnx")
    weight = torch.randn(64, 5).numpy()
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 1, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 5])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "t.onnx"))
    teacher = build_teacher(plan(str(tmp_path / "t.onnx")))
    x = images(5)  # the file has a fixed batch of 2
    torch.testing.assert_close(teacher(x), (x / 16).flatten(1) @ torch.from_numpy(weight))
    assert not teacher.gives_features and not list(teacher.parameters())


def test_onnx_of_torch_and_what_is_refused(tmp_path):
    """A convolutional network as torch exports it, with a batch of any size; other inputs and files are refused."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    net.eval()
    path = tmp_path / "t.onnx"
    batch = torch.export.Dim("batch")
    torch.onnx.export(net, (torch.zeros(2, 1, 8, 8),), path, dynamic_shapes=({0: batch},), dynamo=True, verbose=False)
    teacher = build_teacher(plan(str(path)))
    x = images(7)
    torch.testing.assert_close(teacher(x), net(x / 16), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="does not take images"):
        build_teacher(TeacherPlan(str(path), (1, 9, 9), 5, 16))
    with pytest.raises(UsageError, match="one logit a class"):
        build_teacher(TeacherPlan(str(path), (1, 8, 8), 7, 16))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError):
        build_teacher(plan(str(tmp_path / "bad.onnx")))
    with pytest.raises(DataError, match="no such file"):
        build_teacher(plan(str(tmp_path / "none.onnx")))
