"""Distillation losses: pure functions, and one `nn.Module` per method for anyone's training loop.

    loss = SeAlKD()                                   # or build_method(["seal", "ckd"])
    terms = loss(DistillBatch(logits, labels, teacher_logits=teacher_logits))
    total_loss(terms).backward()

`terms` holds named, already weighted scalars. `loss.needs` says which optional inputs a method reads. All are
computed in float32 or wider, also under autocast.
"""

from snnkd_deploy.distill.losses.batch import DistillBatch, DistillLoss, total_loss
from snnkd_deploy.distill.losses.ckd import CKD, CKDNld, CKDSamd
from snnkd_deploy.distill.losses.classification import (
    TET,
    LabelSmoothing,
    MeanCE,
    PerStepCE,
    ce_mean_loss,
    ce_per_step_loss,
    label_smoothing_loss,
    tet_loss,
)
from snnkd_deploy.distill.losses.features import (
    BKDSNN,
    KDSNN,
    EnOF,
    bkdsnn_feature_loss,
    bkdsnn_logit_loss,
    enof_loss,
    feature_distance,
    kdsnn_logit_loss,
)
from snnkd_deploy.distill.losses.nld import nld_loss
from snnkd_deploy.distill.losses.registry import METHODS, CombinedLoss, build_method, method_options
from snnkd_deploy.distill.losses.samd import (
    class_activation_map,
    samd_loss,
    scale_map,
    spike_activation_map,
)
from snnkd_deploy.distill.losses.seal import (
    SeAlELA,
    SeAlKD,
    SeAlSTA,
    ela_loss,
    equalise_errors,
    mix_timesteps,
    sta_loss,
)
from snnkd_deploy.distill.losses.teacher_logits import LogitKD, PerStepKD, logit_kd_loss, twkl_loss
from snnkd_deploy.distill.losses.temporal import (
    TKS,
    LogitSNN,
    Strong2Weak,
    Weak2Strong,
    strong_weak_loss,
    tks_loss,
    twsd_loss,
)

__all__ = [
    "BKDSNN",
    "CKD",
    "KDSNN",
    "METHODS",
    "TET",
    "TKS",
    "CKDNld",
    "CKDSamd",
    "CombinedLoss",
    "DistillBatch",
    "DistillLoss",
    "EnOF",
    "LabelSmoothing",
    "LogitKD",
    "LogitSNN",
    "MeanCE",
    "PerStepCE",
    "PerStepKD",
    "SeAlELA",
    "SeAlKD",
    "SeAlSTA",
    "Strong2Weak",
    "Weak2Strong",
    "bkdsnn_feature_loss",
    "bkdsnn_logit_loss",
    "build_method",
    "ce_mean_loss",
    "ce_per_step_loss",
    "class_activation_map",
    "ela_loss",
    "enof_loss",
    "equalise_errors",
    "feature_distance",
    "kdsnn_logit_loss",
    "label_smoothing_loss",
    "logit_kd_loss",
    "method_options",
    "mix_timesteps",
    "nld_loss",
    "samd_loss",
    "scale_map",
    "spike_activation_map",
    "sta_loss",
    "strong_weak_loss",
    "tet_loss",
    "tks_loss",
    "total_loss",
    "twkl_loss",
    "twsd_loss",
]
