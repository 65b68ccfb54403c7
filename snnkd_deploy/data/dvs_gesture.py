"""DVS128 Gesture (Amir et al., CVPR 2017): eleven hand gestures, 128 x 128, two polarities.

The archive's folder holds userNN_<light>.aedat (AEDAT 3.1), userNN_<light>_labels.csv (class 1..11, start and end in
microseconds of every gesture) and the lists trials_to_train.txt and trials_to_test.txt. The publisher's download
page needs a browser.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from snnkd_deploy.data.aedat import read_aedat31
from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.event_pools import EventOptions, Recording, finish, store_of
from snnkd_deploy.data.events import EventStore
from snnkd_deploy.data.locate import Layout
from snnkd_deploy.data.request import Request, obtain
from snnkd_deploy.errors import DataError

SHAPE = (2, 128, 128)
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
_LAYOUT = Layout(
    ("DvsGesture", "DVSGesture/DvsGesture", "DVS128Gesture/DvsGesture", "dvs-gesture", ""),
    (("trials_to_train.txt",), ("trials_to_test.txt",)),
)
_HINT = "fetch DvsGesture.tar.gz from https://research.ibm.com/dvsgesture/, unpack it, and --data the folder above it"


def read_dvs_gesture(request: Request) -> Source:
    """DVS128 Gesture: 1,176 + 288 gestures of a few seconds. By default T frames divide each gesture's own
    duration; option window_us gives a fixed time instead, which is what a chip at a fixed step sees."""
    options = EventOptions.of(request, window_us="sample")
    _, files = obtain(request, (_LAYOUT,), hints=(_HINT,))
    pools: list[EventStore | Tensor] = []
    labels: list[Tensor] = []
    for listing in files:
        numbers: list[int] = []
        pools.append(store_of(_gestures(listing, numbers), SHAPE, str(listing.parent), options))
        labels.append(torch.tensor(numbers, dtype=torch.int64))
    train, test = (Pool(x, y) for x, y in zip(finish(pools, options), labels, strict=True))
    return Source("events", train, test, CLASSES, options.cap, str(files[0].parent))


def _gestures(listing: Path, labels: list[int]) -> Iterator[Recording]:
    """Every gesture of the trials in `listing`; its class number is appended to `labels`."""
    trials = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    for trial in trials:
        path = listing.parent / trial
        table = path.with_name(f"{path.stem}_labels.csv")
        for needed in (path, table):
            if path.parent != listing.parent or not needed.is_file():
                raise DataError(f"{listing.name} names a file that is not there", where=str(needed))
        events = read_aedat31(path.read_bytes(), str(path))
        for number, start, end in _windows(table):
            inside = (events.t_us >= start) & (events.t_us < end)
            labels.append(number)
            yield Recording(events.x[inside], events.y[inside], events.p[inside], events.t_us[inside] - start)


def _windows(table: Path) -> list[tuple[int, int, int]]:
    """(class 0..10, start, end) of every gesture of a trial."""
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    try:
        found = [(int(r["class"]) - 1, int(r["startTime_usec"]), int(r["endTime_usec"])) for r in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"not a table of gestures: {error}", where=str(table), need="class,startTime_usec,endTime_usec"
        ) from error
    if any(not 0 <= number < len(CLASSES) or end <= start for number, start, end in found):
        raise DataError("a gesture with an impossible class or time", where=str(table), need="class 1..11, start < end")
    return found
