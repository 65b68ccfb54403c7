"""Arrays of files that nobody vouches for."""

import zipfile

import numpy as np
import pytest

from snnkd_deploy.data.npz import read_npz
from snnkd_deploy.errors import DataError


def test_what_cannot_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_npz(tmp_path)  # a folder; a file without permission gives the same class of error
    assert "damaged" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_members_that_are_no_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", "hello")
    with pytest.raises(DataError, match="no array: x"):
        read_npz(tmp_path / "x.npz")


def test_nobody_is_told_to_unpickle(tmp_path):
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    (tmp_path / "noise.npz").write_bytes(bytes(range(200)))
    for name in ("objects", "noise"):
        with pytest.raises(DataError, match="Python objects") as caught:
            read_npz(tmp_path / f"{name}.npz")
        assert "allow_pickle" not in str(caught.value)
