"""The modules: one calling convention, switches, needs, reproducible noise, precision, combinations."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import Tensor

from snnkd_deploy.distill import losses as L
from snnkd_deploy.distill.losses.features import blur_mask
from snnkd_deploy.errors import UsageError

STUDENT_CHANNELS, TEACHER_CHANNELS = 6, 7


def make_batch(dtype: torch.dtype = torch.float64, **changes: object) -> L.DistillBatch:
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    batch = L.DistillBatch(
        student_logits=normal(3, 4, 5),
        labels=torch.tensor([0, 4, 2, 2]),
        teacher_logits=normal(4, 5),
        student_features=(normal(3, 4, STUDENT_CHANNELS, 4, 4) > 0.5).to(dtype),
        teacher_features=normal(4, TEACHER_CHANNELS, 4, 4),
        classifier_weight=normal(5, TEACHER_CHANNELS),
        progress=0.5,
        noise_seed=11,
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


def build(*names: str, **options: dict) -> L.DistillLoss:
    torch.manual_seed(0)  # the alignment layers of the feature methods
    return L.build_method(names, options, student_channels=STUDENT_CHANNELS, teacher_channels=TEACHER_CHANNELS).double()


TERMS = {
    "none": {"ce"},
    "ce": {"ce"},
    "tet": {"ce", "tet"},
    "label_smoothing": {"ce"},
    "kd": {"ce", "kd"},
    "twkl": {"ce", "twkl"},
    "kdsnn": {"ce", "kdsnn_logit", "kdsnn_feature"},
    "bkdsnn": {"ce", "bkdsnn_logit", "bkdsnn_feature"},
    "enof": {"ce", "enof"},
    "tks": {"ce", "tks"},
    "logit_snn": {"ce", "twkl", "twsd"},
    "s2w": {"ce", "s2w"},
    "w2s": {"ce", "w2s"},
    "seal": {"ce", "ela", "sta"},
    "seal_ela": {"ce", "ela"},
    "seal_sta": {"ce", "sta"},
    "ckd": {"ce", "samd", "nld"},
    "ckd_samd": {"ce", "samd"},
    "ckd_nld": {"ce", "nld"},
}


def test_the_registry_is_complete() -> None:
    assert set(L.METHODS) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
def test_every_method_uses_exactly_what_it_says_it_needs(name: str) -> None:
    module = build(name)
    optional = {"teacher_logits", "student_features", "teacher_features", "classifier_weight"}
    assert module.needs <= optional
    full = make_batch()
    lean = replace(full, **dict.fromkeys(optional - module.needs))
    terms = module(lean)
    assert set(terms) == TERMS[name]
    assert all(torch.equal(terms[key], value) for key, value in module(full).items())
    for field in module.needs:
        with pytest.raises(UsageError, match=f"needs {field}.*not given"):
            module(replace(full, **{field: None}))
    assert module.needs_teacher_logits == ("teacher_logits" in module.needs)
    assert module.needs_teacher == bool(module.needs - {"student_features"})


def test_all_missing_inputs_are_named_at_once() -> None:
    batch = make_batch()
    with pytest.raises(UsageError) as caught:
        build("seal", "ckd")(L.DistillBatch(batch.student_logits, batch.labels))
    for field in ("teacher_logits", "student_features", "teacher_features", "classifier_weight"):
        assert field in str(caught.value)


def test_defaults_are_the_published_ones() -> None:
    seal, ckd = L.SeAlKD(), L.CKD()
    assert (seal.alpha, seal.beta, seal.temperature) == (0.6, 0.15, 3.0)
    assert (ckd.beta, ckd.gamma, ckd.temperature, ckd.noise_weight) == (1.0, 1.0, 2.0, 0.1)
    assert (ckd.samd_convention, ckd.nld_convention, ckd.samd_reduction) == ("rec", "rec", "mean")
    assert L.CKD(samd_convention="paper").samd_reduction == "sum"
    assert ckd.settings()["samd_convention"] == "rec" and "samd_convention='rec'" in repr(ckd)
    assert build("seal", "ckd").settings()["seal"]["alpha"] == 0.6


def test_signatures_that_others_script_against() -> None:
    def names(function) -> list[str]:
        kinds = inspect.signature(function).parameters.values()
        return [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]

    assert names(L.ela_loss) == ["student_logits", "teacher_logits", "labels", "temperature"]
    assert names(L.sta_loss) == ["student_logits", "temperature"]
    assert names(L.spike_activation_map) == ["student_features"]
    assert names(L.class_activation_map) == ["teacher_features", "classifier_weight", "classes"]
    assert names(L.samd_loss) == ["sam", "cam", "temperature", "convention"]
    assert names(L.nld_loss) == [
        "student_logits",
        "teacher_logits",
        "noise",
        "noise_weight",
        "temperature",
        "convention",
    ]


def test_terms_are_weighted() -> None:
    batch = make_batch()
    z, u, y = batch.student_logits, batch.require("teacher_logits"), batch.labels
    terms = L.SeAlKD(alpha=2.0, beta=3.0)(batch)
    torch.testing.assert_close(terms["ela"], 2 * L.ela_loss(z, u, y))
    torch.testing.assert_close(terms["sta"], 3 * L.sta_loss(z))
    terms = L.TKS()(batch)  # a = 1 - 0.7 * 0.5
    torch.testing.assert_close(terms["ce"], 0.65 * L.ce_mean_loss(z, y))
    torch.testing.assert_close(terms["tks"], 0.35 * L.tks_loss(z, y))
    assert L.TKS()(replace(batch, progress=0.0))["tks"] == 0
    terms = L.LogitSNN()(batch)
    torch.testing.assert_close(terms["twkl"], 0.2 * L.twkl_loss(z, u))
    torch.testing.assert_close(terms["twsd"], 0.5 * L.twsd_loss(z, y))
    torch.testing.assert_close(L.total_loss(L.TET()(batch)), L.tet_loss(z, y))
    scaled = L.Strong2Weak(scale=True)(batch)["s2w"]
    torch.testing.assert_close(scaled, 4 * L.strong_weak_loss(z))
    assert not torch.allclose(L.Weak2Strong()(batch)["w2s"], L.strong_weak_loss(z))


def test_switches() -> None:
    assert L.SeAlKD(ela=False).needs == frozenset()
    assert "samd" not in L.CKD(samd=False)(make_batch())
    assert L.CKD(samd=False).needs == {"teacher_logits"}
    assert "teacher_logits" not in L.CKD(nld=False).needs
    assert "teacher_logits" in L.CKD(nld=False, samd_convention="code").needs
    without = build("kdsnn", kdsnn={"feature_weight": 0.0})
    assert not without.needs_student_features and not list(without.parameters())


def test_code_convention_takes_the_predicted_class() -> None:
    batch = make_batch()
    by_prediction = replace(batch, labels=batch.require("teacher_logits").argmax(-1))
    code = L.CKD(nld=False, samd_convention="code")
    assert torch.equal(code(batch)["samd"], code(by_prediction)["samd"])
    rec = L.CKD(nld=False)
    assert not torch.equal(rec(batch)["samd"], rec(by_prediction)["samd"])


@pytest.mark.parametrize("name, term", [("ckd", "nld"), ("bkdsnn", "bkdsnn_feature")])
def test_noise_is_a_function_of_the_seed(name: str, term: str) -> None:
    module = build(name)

    def value(seed: int | None, global_seed: int = 0) -> Tensor:
        torch.manual_seed(global_seed)
        return module(make_batch(noise_seed=seed))[term]

    assert torch.equal(value(5), value(5, global_seed=1))
    assert not torch.equal(value(5), value(6))
    assert torch.equal(value(None, 1), value(None, 1))
    assert not torch.equal(value(None, 1), value(None, 2))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    module(make_batch(noise_seed=5))
    assert torch.equal(state, torch.get_rng_state())


def test_nld_draws_from_the_generator_it_is_given() -> None:
    batch = make_batch()
    zbar, u = batch.student_logits.mean(0), batch.require("teacher_logits")

    def value(seed: int) -> Tensor:
        return L.nld_loss(zbar, u, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(value(1), value(1)) and not torch.equal(value(1), value(2))


def test_noise_is_the_same_in_either_precision() -> None:
    single, double = (L.CKD()(make_batch(dtype)) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single["nld"].double(), double["nld"], rtol=1e-5, atol=0)


def test_blur_mask_drops_whole_channels_at_the_asked_rate() -> None:
    mask = blur_mask((200, 100), 0.15, torch.zeros(1), seed=0)
    assert mask.shape == (200, 100, 1, 1) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert abs(mask.mean().item() - 0.85) < 0.01


@pytest.mark.parametrize("name", TERMS)
def test_losses_are_computed_in_float32_under_autocast(name: str) -> None:
    """bfloat16 inputs under autocast give what float32 copies of them give without it."""
    module = build(name).float()
    half = make_batch(torch.bfloat16)
    wide = replace(
        half,
        **{
            key: value.float()
            for key, value in vars(half).items()
            if isinstance(value, Tensor) and value.is_floating_point()
        },
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = module(half)
        mixed = module(wide)
    exact = module(wide)
    for key, value in exact.items():
        assert low[key].dtype == mixed[key].dtype == torch.float32
        torch.testing.assert_close(low[key], value, rtol=1e-6, atol=1e-7, msg=key)
        torch.testing.assert_close(mixed[key], value, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.parametrize("name", TERMS)
def test_student_gets_a_gradient_and_the_teacher_none(name: str) -> None:
    module = build(name)
    batch = make_batch()
    tensors = {k: v.clone() for k, v in vars(batch).items() if isinstance(v, Tensor)}
    for key, value in tensors.items():
        if key != "labels":
            value.requires_grad_()
    L.total_loss(module(replace(batch, **tensors))).backward()
    assert tensors["student_logits"].grad is not None
    assert (tensors["student_features"].grad is not None) == module.needs_student_features
    for key in ("teacher_logits", "teacher_features", "classifier_weight"):
        assert tensors[key].grad is None, key
    assert all(p.grad is not None for p in module.parameters())


def test_enof_uses_the_bias_when_given() -> None:
    batch = make_batch()
    same = replace(batch, student_features=batch.require("teacher_features").expand(3, -1, -1, -1, -1))
    biased = replace(same, classifier_bias=torch.tensor([5.0, 0, 0, 0, 0], dtype=torch.float64))
    module = L.EnOF()
    torch.testing.assert_close(module(same)["enof"], torch.zeros((), dtype=torch.float64))
    other = replace(biased, teacher_features=-batch.require("teacher_features"))
    assert not torch.equal(module(other)["enof"], module(replace(other, classifier_bias=None))["enof"])


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4)])
@pytest.mark.parametrize("name", ["kdsnn", "bkdsnn", "enof"])
def test_feature_methods_accept_maps_of_different_size(name: str, sizes: tuple[int, int]) -> None:
    batch = make_batch(
        student_features=torch.rand(3, 4, STUDENT_CHANNELS, sizes[0], sizes[0], dtype=torch.float64),
        teacher_features=torch.rand(4, TEACHER_CHANNELS, sizes[1], sizes[1], dtype=torch.float64),
    )
    assert L.total_loss(build(name)(batch)).isfinite()


def test_channel_mismatch_is_refused() -> None:
    with pytest.raises(UsageError, match="sizes differ"):
        L.KDSNN()(make_batch())
    with pytest.raises(UsageError, match="teacher_channels"):
        L.build_method(["bkdsnn"])


def test_combination_counts_the_classification_term_once() -> None:
    batch = make_batch()
    both, seal, ckd = (build(*n)(batch) for n in (("seal", "ckd"), ("seal",), ("ckd",)))
    assert set(both) == {"ce", "ela", "sta", "samd", "nld"}
    assert torch.equal(both["ce"], seal["ce"]) and not torch.equal(both["ce"], ckd["ce"])
    assert torch.equal(build("ckd", "seal")(batch)["ce"], ckd["ce"])
    assert torch.equal(both["nld"], ckd["nld"])
    assert build("seal", "ckd").needs == L.SeAlKD().needs | L.CKD().needs


def test_combination_keeps_both_terms_of_one_name() -> None:
    terms = build("twkl", "logit_snn")(make_batch())
    assert set(terms) == {"ce", "twkl", "logit_snn.twkl", "twsd"}


def test_combination_holds_its_methods_parameters() -> None:
    combined = build("seal", "bkdsnn", "kdsnn")
    assert {name.split(".")[1] for name, _ in combined.named_parameters()} == {"bkdsnn", "kdsnn"}
    again = build("seal", "bkdsnn", "kdsnn")
    again.load_state_dict(combined.state_dict())


def test_a_single_name_is_the_method_itself() -> None:
    assert type(L.build_method(["seal"])) is L.SeAlKD
    assert type(L.build_method("seal_ela")) is L.SeAlELA
    assert L.build_method(["seal"], {"seal": {"alpha": 1.5}}).alpha == 1.5


def test_mistakes_in_names_and_options_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        L.build_method(["sael", "ckd"], {"ckd": {"betta": 2.0}, "tks": {}})
    text = str(caught.value)
    assert "unknown distillation method 'sael'" in text and "did you mean 'seal'?" in text
    assert "ckd has no option 'betta'" in text and "did you mean 'beta'?" in text
    assert "options for 'tks'" in text
    with pytest.raises(UsageError, match="named twice"):
        L.build_method(["seal", "seal"])
    with pytest.raises(UsageError, match="no distillation method"):
        L.build_method([])
    with pytest.raises(UsageError, match="none has no option"):
        L.build_method(["none"], {"none": {"alpha": 1}})
    with pytest.raises(UsageError, match="samd_convention"):
        L.build_method(["ckd"], {"ckd": {"samd_convention": "papers"}})


def test_method_options_lists_defaults() -> None:
    assert L.method_options("none") == {}
    assert L.method_options("seal")["alpha"] == 0.6
    assert "teacher_channels" not in L.method_options("bkdsnn")
    for name in L.METHODS:
        build(name, **{name: L.method_options(name)})


def test_batches_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        make_batch().progress = 1.0  # type: ignore[misc]
    with pytest.raises(UsageError, match="teacher_logits"):
        L.DistillBatch(torch.zeros(1, 1, 2), torch.tensor([0])).require("teacher_logits")


def test_public_names_exist_and_are_sorted_out() -> None:
    assert all(hasattr(L, name) for name in L.__all__)
    assert len(set(L.__all__)) == len(L.__all__)
