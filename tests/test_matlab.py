"""MATLAB files, against SciPy's writer and reader, and files that lie about their sizes."""
import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from actionjax.data.formats import matlab
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError

TYPES = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


def saved(variables, **kwargs) -> bytes:
  file = io.BytesIO()
  scipy.io.savemat(file, variables, **kwargs)
  return file.getvalue()


def read(path, data, name="x"):
  path.write_bytes(data)
  return matlab.variable(Source(None, str(path), len(data)), name)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_as_scipy_reads(tmp_path, dtype, packed):
  rng = np.random.default_rng(0)
  for shape in ((1, 1), (3, 5), (4, 3, 2), (2, 0), (1, 7)):
    value = rng.integers(0, 100, shape).astype(dtype)
    data = saved({"before": np.ones(3), "x": value, "after": "text"}, do_compression=packed)
    found = read(tmp_path / "a.mat", data)
    expected = scipy.io.loadmat(io.BytesIO(data))["x"]
    assert found.dtype == value.dtype == expected.dtype and found.shape == shape
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, value)


def element(kind: int, content: bytes, order="<") -> bytes:
  return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(name: bytes, shape, kind: int, content: bytes, code: int = 6, order="<",
           flags: int = 0) -> bytes:
  inner = (element(6, struct.pack(f"{order}II", code | flags << 8, 0), order)
           + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
           + element(1, name, order) + element(kind, content, order))
  return element(14, inner, order)


def header(order="<") -> bytes:
  return b"MATLAB 5.0 MAT-file".ljust(124) + (b"\0\1IM" if order == "<" else b"\1\0MI")


def test_doubles_that_lie_in_smaller_elements(tmp_path):
  """As MATLAB itself writes whole numbers; and with the bytes of the other kind of machine."""
  for order in "<>":
    content = struct.pack(f"{order}6h", 1, 2, 3, 4, 5, 600)
    data = header(order) + matrix(b"x", (2, 3), 3, content, order=order)
    found = read(tmp_path / "a.mat", data)
    assert found.dtype == np.float64 and found.dtype.isnative
    np.testing.assert_array_equal(found, [[1, 3, 5], [2, 4, 600]])


def test_numbers_in_a_tag(tmp_path):
  small = struct.pack("<HHI", 2, 3, 0)[:4] + b"\7\x08\x09\0"
  inner = (element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack("<ii", 1, 3))
           + struct.pack("<HH", 1, 1) + b"x\0\0\0" + small)
  found = read(tmp_path / "a.mat", header() + element(14, inner))
  assert found.dtype == np.uint8
  np.testing.assert_array_equal(found, [[7, 8, 9]])


def test_what_is_not_read_is_named(tmp_path):
  data = saved({"cells": np.array(["a", 1], object), "record": {"a": 1}, "text": "abc",
                "c": np.array([1j])})
  for name, what in (("cells", "cell array"), ("record", "struct"), ("text", "text"),
                     ("c", "array of complex numbers")):
    with pytest.raises(RawDataError, match=f"a.mat: {name} is a {what}, not an array of real"):
      read(tmp_path / "a.mat", data, name)
  with pytest.raises(RawDataError, match="has no variable x; it holds: cells, record, text, c$"):
    read(tmp_path / "a.mat", data)
  with pytest.raises(RawDataError, match="has no variable x; it holds: nothing$"):
    read(tmp_path / "a.mat", header())


def bomb(megabytes: int) -> bytes:
  packer = zlib.compressobj()
  pieces = [packer.compress(struct.pack("<II", 14, megabytes * 2**20))]
  pieces += [packer.compress(bytes(2**20)) for _ in range(megabytes)]
  return b"".join((*pieces, packer.flush()))


BIG = 10**9
LIES = {
    "shape": matrix(b"x", (BIG, BIG), 9, bytes(16)),
    "negative": matrix(b"x", (-1, -2), 9, bytes(16)),
    "length": header()[:0] + struct.pack("<II", 14, 2**31) + bytes(64),
    "inner length": element(14, struct.pack("<II", 6, 2**32 - 1) + bytes(64)),
    "packed": element(15, zlib.compress(struct.pack("<II", 14, 2**32 - 8) + bytes(99))),
    "packed twice": element(15, zlib.compress(element(15, zlib.compress(bytes(99))))),
    "bomb": element(15, bomb(80)),
    "cut": element(15, zlib.compress(matrix(b"x", (1, 2), 9, bytes(16)))[:-6]),
    "tag": struct.pack("<HH", 14, 9) + bytes(20),
    "type": matrix(b"x", (1, 2), 77, bytes(16)),
    "no shape": matrix(b"x", (), 9, bytes(8)),
    "empty": element(14, b""),
    "half a tag": b"\x0e\0\0",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_before_memory_is_set_aside(tmp_path, lie):
  import tracemalloc
  data = header() + LIES[lie]
  (tmp_path / "a.mat").write_bytes(data)
  tracemalloc.start()
  try:
    with pytest.raises(RawDataError, match="a.mat is not a readable MATLAB file") as error:
      matlab.variable(Source(None, str(tmp_path / "a.mat"), len(data)), "x")
    assert tracemalloc.get_traced_memory()[1] < 2**27 + 4 * len(data)
  finally:
    tracemalloc.stop()
  assert str(error.value).isprintable()


def test_other_versions(tmp_path):
  for data, message in ((saved({"x": np.ones(3)}, format="4"), "does not begin as version 5"),
                        (b"\x89HDF\r\n\x1a\n" + bytes(200), "version 7.3; save it as version 7"),
                        (b"MATLAB 7.3 MAT-file, " + bytes(200), "version 7.3")):
    with pytest.raises(RawDataError, match=message):
      read(tmp_path / "a.mat", data)
