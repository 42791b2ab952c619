import pickle

import numpy as np
import pytest

from convnn.data import safe_pickle


class Canary:
    """Runs a command when it is unpickled by a careless reader."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return exec, (f"open({str(self.file)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_bytes_and_lists_come_back(protocol):
    data = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [0, 1], b"name": b"\xff\x00", "text": "é"}
    if protocol == 5:
        data["data"] = data["data"].tolist()  # numpy writes arrays of protocol 5 another way, and no data set does
    found = safe_pickle.load(pickle.dumps(data, protocol=protocol))
    np.testing.assert_array_equal(found.pop("data"), data.pop("data"))
    assert found == data


def test_a_hostile_pickle_is_refused_before_it_does_anything(tmp_path):
    hostile = pickle.dumps({"data": Canary(tmp_path / "canary")})
    with pytest.raises(pickle.UnpicklingError, match=r"names builtins.exec, which no data needs"):
        safe_pickle.load(hostile)
    assert not (tmp_path / "canary").exists()
    pickle.loads(hostile)
    assert (tmp_path / "canary").exists(), "the canary works"


@pytest.mark.parametrize("name", ["os\nsystem", "numpy\nload", "numpy\nndarray.tofile", "sys\nexit", "codecs\nencode"])
def test_nothing_else_can_be_named(name):
    with pytest.raises(pickle.UnpicklingError, match="which no data needs"):
        safe_pickle.load(f"c{name}\n.".encode())


def test_a_codec_that_could_unpack_a_bomb_is_refused():
    with pytest.raises(pickle.UnpicklingError, match="names the encoding 'zip'"):
        safe_pickle.load(b"c_codecs\nencode\n(S'a'\nS'zip'\ntR.")


def test_a_damaged_pickle_is_one_kind_of_error():
    whole = pickle.dumps({"data": np.zeros(100, dtype=np.uint8)}, protocol=2)
    for end in range(len(whole)):
        with pytest.raises(pickle.UnpicklingError):
            safe_pickle.load(whole[:end])


def test_an_array_larger_than_memory_is_refused():
    small, shape = pickle.dumps(np.zeros(1, dtype=np.uint8), protocol=2), b"K\x00\x85"  # (0,)
    assert small.count(shape) == 1
    with pytest.raises(pickle.UnpicklingError, match="damaged: "):
        safe_pickle.load(small.replace(shape, b"\x8a\x07" + b"\xff" * 6 + b"\x3f\x85"))  # (2**54 - 1,)
