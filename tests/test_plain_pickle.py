"""Pickles of plain content are read exactly, and nothing in any pickle is executed."""
import builtins
import io
import os
import pathlib
import pickle
import struct
import subprocess

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.data.clips.record import complete
from actionjax.data.formats import plain_pickle
from actionjax.data.own import annotations
from actionjax.errors import RawDataError, UserError
from tests import raw_own

ROOT = pathlib.Path(__file__).resolve().parent.parent


PLAIN = {
    "numbers": [1, -5, 2**40, -2**70, 1.5, True, False, None], "text": ["ä", "", "x" * 300],
    "nested": {"tuple": (1, (2, ()), [3, {4: 5}])}, "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
    "set": {1, 2, "three"}, "frozen": frozenset([4]), "scalar": np.float32(2.5),
    "arrays": [np.arange(12, dtype=np.int16).reshape(3, 4), np.asfortranarray(np.eye(3, 2)),
               np.zeros((0, 4), np.float16), np.array(7), np.array(["ab", "c"]),
               np.arange(3, dtype=">f4"), np.array([True, False])]}


def same(a, b):
  if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
    np.testing.assert_array_equal(a, b)
    # The standard library turns the bytes of other machines round in some protocols only.
    assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and a.shape == b.shape
  elif isinstance(b, dict):
    assert set(a) == set(b)
    for key in b:
      same(a[key], b[key])
  elif isinstance(b, (list, tuple)):
    assert type(a) is type(b) and len(a) == len(b)
    for x, y in zip(a, b):
      same(x, y)
  else:
    assert a == b and (type(a) is type(b) or isinstance(b, (frozenset, bytearray)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_is_read_exactly(tmp_path, protocol):
  path = raw_own.dump(tmp_path / "a.pkl", PLAIN, protocol)
  same(plain_pickle.load(path), pickle.loads(path.read_bytes()))


def test_old_and_new_names_of_numpy(tmp_path):
  data = pickle.dumps(np.arange(6, dtype=np.float16), protocol=2)
  assert b"numpy._core.multiarray" in data
  for old, new in ((b"numpy._core", b"numpy._core"), (b"numpy._core", b"numpy.core")):
    (tmp_path / "a.pkl").write_bytes(data.replace(old, new))
    np.testing.assert_array_equal(plain_pickle.load(tmp_path / "a.pkl"), np.arange(6))


def test_python_2_pickles(tmp_path):
  # What Python 2 writes for an array: raw data as a string of bytes.
  data = (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U"
          b"\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff"
          b"\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + struct.pack("<2f", 1.5, -200.25) + b"tb.")
  (tmp_path / "a.pkl").write_bytes(data)
  np.testing.assert_array_equal(plain_pickle.load(tmp_path / "a.pkl"), np.float32([1.5, -200.25]))
  np.testing.assert_array_equal(pickle.loads(data, encoding="latin1"), [1.5, -200.25])


class Call:
  """Pickles as a call of a function."""

  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


def malicious(marker):
  """(name that the refusal gives, pickle) of ways to run something that writes `marker`."""
  command = f"touch {marker}"
  yield "posix.system|nt.system", pickle.dumps(Call(os.system, command))
  yield r"asks for a\\x1b\\x07.b;", b"ca\x1b\x07\nb\n."
  yield "builtins.eval", pickle.dumps(Call(builtins.eval, f"open({str(marker)!r}, 'w')"))
  yield "builtins.exec", pickle.dumps({"annotations": [Call(builtins.exec, "1")], "split": {}})
  yield "subprocess.Popen", pickle.dumps(Call(subprocess.Popen, ["touch", str(marker)]))
  yield "builtins.getattr", pickle.dumps(Call(getattr, "x", "y"))
  # By the names that are allowed, as ways to something else.
  yield "os.system", f"cnumpy\nndarray\n0cos\nsystem\n(S'{command}'\ntR.".encode()
  yield "numpy.testing._private.utils.runstring", (
      b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.")
  yield "to build an object .INST.|os.system to build", f"(S'{command}'\nios\nsystem\n.".encode()
  yield r"asks for os\\x00.system to build", b"(S'a'\nios\x00\nsystem\n."
  yield r"asks.*\(OBJ\)|os.system", f"(cos\nsystem\nS'{command}'\no.".encode()
  yield r"asks to build an object \(NEWOBJ\)", b"\x80\x02cnumpy\ndtype\n)\x81."
  yield r"calls a str", b"S'print'\n(tR."
  yield r"sets the state of a dict", b"}(S'a'\nI1\ntb."
  yield r"asks to build an object \(PERSID\)", b"Pos.system\n."
  yield r"asks to build an object \(EXT1\)", b"\x80\x02\x82\x01."
  yield "numpy.dtype in an unknown way", b"cnumpy\ndtype\n(I1\ntR."
  yield "posix.system|nt.system", pickle.dumps(
      {"keypoint": np.array([Call(os.system, command)], object)})
  yield "type 'O8'", pickle.dumps(np.array([1, None], object))
  yield "type 'V4'", pickle.dumps(np.zeros(2, [("a", "f4")]))
  yield "pathlib.PosixPath|pathlib.WindowsPath", pickle.dumps(pathlib.Path("a"), protocol=2)
  yield "key", pickle.dumps({(1, 2): 3})
  # Text of numbers that are no characters makes NumPy fail, or worse, when it is looked at.
  yield "text that is none", pickle.dumps(np.frombuffer(b"\xff\xff\xff\x7f", "<U1"), protocol=5)
  yield r"copyreg._reconstructor", pickle.dumps(io.StringIO, protocol=0).replace(
      b"_io", b"copyreg").replace(b"StringIO", b"_reconstructor")


def test_malicious_pickles_are_refused_by_name_and_nothing_runs(tmp_path):
  marker = tmp_path / "ran"
  cases = list(malicious(marker))
  assert len(cases) > 15
  for name, data in cases:
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with pytest.raises(RawDataError, match=name) as error:
      plain_pickle.load(path)
    assert str(path) in str(error.value) and "nothing in it was run" in str(error.value)
    assert str(error.value).isprintable()
    assert not marker.exists()
    with pytest.raises(RawDataError, match=name):
      raw_own.prepare("annotations:bad", path, tmp_path / "data")
  assert not marker.exists()
  # The same bytes do run something where they are trusted.
  pickle.loads(cases[0][1])
  assert marker.exists()


def array_pickle(shape: bytes, data: bytes) -> bytes:
  return (b"\x80\x04\x8c\x15numpy.core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94\x8c\x05numpy"
          b"\x94\x8c\x07ndarray\x94\x93\x94K\x00\x85C\x01b\x87R(K\x01" + shape +
          b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f4\x89\x88\x87R\x89"
          b"C" + bytes([len(data)]) + data + b"tb.")


def test_an_array_is_as_large_as_its_bytes(tmp_path):
  path = tmp_path / "a.pkl"
  path.write_bytes(array_pickle(b"K\x02\x85", b"\0" * 8))
  np.testing.assert_array_equal(plain_pickle.load(path), np.zeros(2))
  for shape in (b"K\x03\x85", b"\x8a\x06" + b"\xff" * 5 + b"\x7f\x85",  # 2**47 numbers
                b"J\xff\xff\xff\xff\x85", b"K\x02K\x02\x86", b"]"):
    path.write_bytes(array_pickle(shape, b"\0" * 8))
    with pytest.raises(RawDataError, match="bytes for an array|no shape"):
      plain_pickle.load(path)


@pytest.mark.parametrize("data", [
    b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",  # a terabyte of bytearray
    b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",
    b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.",  # a frame of a petabyte, harmless
    b"Nr\xff\xff\xff\xff.",  # memo place 2**32, which C's unpickler sets memory aside for
    b"\x80\x02(" + b"]" * 5 + b"e." , b"", b".", b"N", b"(", b"\x80\x63N", b"0.", b"\x85.", b"u.",
    b"Nh\x09.", b"\x8b\xff\xff\xff\x7f.", b"I" + b"9" * 5000 + b"\n.", b")" * 1000 + b"2u.",
    b"\x80\x02]" + b"\x85" * 100_000 + b"}" + b"q\x00" + b"0N."])
def test_damaged_and_bloated_pickles(tmp_path, data):
  path = tmp_path / "a.pkl"
  path.write_bytes(data)
  try:
    plain_pickle.load(path)
  except RawDataError as error:
    assert str(path) in str(error) and "\n" not in str(error)


def test_deep_tuples_are_no_keys(tmp_path):
  # Hashing this would overflow the interpreter's stack and crash it.
  path = tmp_path / "a.pkl"
  path.write_bytes(b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.")
  with pytest.raises(RawDataError, match="has a tuple for a key"):
    plain_pickle.load(path)


def _mutated(tmp_path_factory, mutate, examples):
  """Reads mutated annotation files; whatever happens is the documented error."""
  folder = tmp_path_factory.mktemp("mutated")
  content = raw_own.annotations(3, shape=(1, 1, 17))  # little data, much structure
  originals = [pickle.dumps(content, protocol=protocol) for protocol in (2, 4, 5)]

  @hypothesis.settings(max_examples=examples, deadline=None,
                       suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(which=st.integers(0, 2), positions=st.lists(st.integers(0, 10**6), max_size=4),
                    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
                    cut=st.none() | st.integers(0, 10**6))
  def read(which, positions, values, cut):
    path = folder / "a.pkl"
    path.write_bytes(raw_own.mutations(originals[which], positions, values, cut))
    mutate(path)

  read()


def _validate_file(path):
  try:
    found, findings = raw_own.survey_annotations(path)
  except UserError:
    return
  for clip in found.clips:
    annotations.examine(clip, findings)
    try:
      made = dict(annotations.encode(clip))
    except RawDataError:
      continue
    del made["notes"]
    complete(made)
  assert all("\n" not in str(finding) for finding in findings.all)


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_mutated_files_raise_the_documented_error(tmp_path_factory):
  _mutated(tmp_path_factory, _validate_file, 300)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_many_mutated_files_raise_the_documented_error(tmp_path_factory):
  _mutated(tmp_path_factory, _validate_file, 3000)
