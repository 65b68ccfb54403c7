from pathlib import Path

import pytest
import torch

from snnkd_deploy.data import DATASETS, Split, load_dataset
from snnkd_deploy.data.dataset import Pool, Source
from snnkd_deploy.data.registry import _count, split_source
from snnkd_deploy.data.request import Request
from snnkd_deploy.errors import DataError, UsageError


def test_digits_need_nothing_and_fit_their_description() -> None:
    data = load_dataset("digits", download=False)
    assert (data.kind, data.shape, data.levels, len(data.classes)) == ("image", (1, 8, 8), 16, 10)
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
    for split in (data.train, data.val, data.test):
        assert split.x.dtype == torch.uint8 and split.y.dtype == torch.int64
        assert int(split.x.max()) == 16
    rows = torch.cat([data.train.index, data.val.index, data.test.index])
    assert torch.equal(rows.sort().values, torch.arange(1797))
    assert "scikit-learn" in data.source


def test_digits_are_the_images_that_scikit_learn_has_at_these_positions() -> None:
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    data = load_dataset("digits")
    for split in (data.train, data.val, data.test):
        assert torch.equal(split.x.flatten(1).double(), torch.from_numpy(images)[split.index])
        assert torch.equal(split.y, torch.from_numpy(target)[split.index])


def test_seeds_change_the_split_but_not_the_contents() -> None:
    a, b, again = load_dataset("digits"), load_dataset("digits", split_seed=1), load_dataset("digits")
    assert torch.equal(a.test.index, again.test.index)
    assert not torch.equal(a.test.index, b.test.index)
    assert a.sha256 == b.sha256 and len(a.sha256) == 64


def test_validation_does_not_move_the_test_part() -> None:
    with_val, without = load_dataset("digits", validation=0.3), load_dataset("digits", validation=0)
    assert torch.equal(with_val.test.index, without.test.index)
    assert (len(without.val), len(without.train)) == (0, 1437)
    assert len(with_val.val) == 432  # 0.3 * 1437 = 431.1, rounded up
    assert without.val.x.shape == (0, 1, 8, 8)


@pytest.mark.parametrize(("fraction", "n", "count"), [(0.1, 30, 3), (0.2, 1797, 360), (0.07, 100, 7), (0.9, 1, 0)])
def test_a_fraction_rounds_up_but_not_for_the_error_of_binary_numbers(fraction: float, n: int, count: int) -> None:
    assert _count(fraction, n) == count


def test_limits_keep_a_stratified_part() -> None:
    data = load_dataset("digits", options={"limit_train": 200, "limit_test": 50}, validation=0.1)
    assert (len(data.train), len(data.val), len(data.test)) == (180, 20, 50)
    assert data.test.y.bincount().tolist() == [5] * 10
    whole = load_dataset("digits")
    assert set(data.test.index.tolist()) <= set(whole.test.index.tolist())
    assert data.sha256 == whole.sha256


def test_manifest_is_plain_json() -> None:
    import json

    manifest = load_dataset("digits", options={"limit_train": 100}).manifest()
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["samples"] == {"train": 90, "val": 10, "test": 360}
    assert manifest["options"] == {"limit_train": 100}


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(UsageError) as caught:
        load_dataset("fashion_mnits")
    assert "did you mean 'fashion-mnist'" in str(caught.value)
    for name in DATASETS:
        assert name in str(caught.value)


def test_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'limit_train'"):
        load_dataset("digits", options={"limit_trian": 5})


@pytest.mark.parametrize("validation", [-0.1, 1.0, 2.0])
def test_impossible_validation(validation: float) -> None:
    with pytest.raises(UsageError, match="validation"):
        load_dataset("digits", validation=validation)


@pytest.mark.parametrize("value", ["ten", 1.5, True, -1])
def test_impossible_limit(value: object) -> None:
    with pytest.raises(UsageError, match="limit"):
        load_dataset("digits", options={"limit_train": value})


def test_missing_data_says_what_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load_dataset("mnist", download=False)
    text = str(caught.value)
    for expected in ("train-images-idx3-ubyte", str(tmp_path), "SNNKD_DATA", "cache", "--data", "download"):
        assert expected in text


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nowhere"):
        load_dataset("mnist", root=tmp_path / "nowhere")
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="SNNKD_DATA"):
        load_dataset("mnist")


def test_images_have_no_frames() -> None:
    with pytest.raises(UsageError, match="encoder"):
        load_dataset("digits").train.frames(torch.tensor([0]), 4)


def _source(y: list[int], classes: int = 2) -> Source:
    x = torch.zeros(len(y), 1, 2, 2, dtype=torch.uint8)
    pool = Pool(x, torch.tensor(y))
    return Source("image", pool, pool, tuple(map(str, range(classes))), 255, "here")


def test_labels_without_a_class_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from snnkd_deploy.data import registry

    for y in ([0, 2], [-1, 0], []):
        broken = replace(DATASETS["digits"], read=lambda request, y=y: _source(y))
        monkeypatch.setitem(registry.DATASETS, "digits", broken)
        with pytest.raises(DataError, match=r"out of range|empty"):
            load_dataset("digits")


def test_split_index_points_into_the_sources_own_order() -> None:
    x = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    y = torch.arange(40) % 2
    source = Source("image", Pool(x[:30], y[:30]), Pool(x[30:], y[30:]), ("a", "b"), 255, "here")
    data = split_source("t", source, split_seed=3, validation=0.2, request=Request("t", None, False, {}))
    for split, first in ((data.train, 0), (data.val, 0), (data.test, 30)):
        assert isinstance(split.x, torch.Tensor)
        assert split.x.flatten().tolist() == (split.index + first).tolist()
    taken: Split = data.val.take(torch.tensor([2, 0]))
    assert taken.index.tolist() == data.val.index[[2, 0]].tolist()
    assert len(data.val) == 6
