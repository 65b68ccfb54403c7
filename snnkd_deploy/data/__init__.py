"""Data sets by name, as integer tensors with fixed splits; encoders, augmentation, epoch orders."""

from snnkd_deploy.data.augment import AUGMENTATIONS, Augment, build_augment
from snnkd_deploy.data.batches import batch_generator, epoch_order
from snnkd_deploy.data.dataset import Dataset, Split
from snnkd_deploy.data.encoders import latency, rate, repeat_constant
from snnkd_deploy.data.events import EventStore
from snnkd_deploy.data.registry import DATASETS, DatasetInfo, load_dataset

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "Augment",
    "Dataset",
    "DatasetInfo",
    "EventStore",
    "Split",
    "batch_generator",
    "build_augment",
    "epoch_order",
    "latency",
    "load_dataset",
    "rate",
    "repeat_constant",
]
