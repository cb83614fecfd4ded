"""The fuzzer finds what it is to find; the parsers stand a short campaign and plain round trips."""
import functools
import json
import os
import pathlib
import pickle
import signal
import sys
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from actionjax.data.formats import plain_npz, plain_pickle
from actionjax.errors import RawDataError
from tests.fuzz import campaign, mutations, parsers

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits memory by /proc")


# ---- the parsers -----------------------------------------------------------------------------

@linux
@pytest.mark.parametrize("name", parsers.PARSERS)
def test_a_short_campaign(name, tmp_path):
  """The command reads many more; see `tests/fuzz`."""
  inputs = 60 if name == "video" else 150
  tally = campaign.run(functools.partial(parsers.named, name), inputs, tmp_path)
  assert not tally.findings, str(tally)
  assert tally.inputs == tally.valid + tally.refused.total() == inputs
  assert set(tally.refused) <= {"RawDataError", "UnreadableClipError", "UserError"}
  assert tally.refused.total() > 0 and tally.edges > 20
  assert json.loads((tmp_path / "tally.json").read_text())["inputs"] == inputs


_LEAVES = (st.none() | st.booleans() | st.integers(-2**80, 2**80) | st.floats(allow_nan=False)
           | st.text(max_size=20) | st.binary(max_size=20)
           | arrays.arrays(st.sampled_from(["f2", "<f4", ">f8", "i8", "u1", "?", "<U3", "S2"]),
                           arrays.array_shapes(min_dims=0, min_side=0)))
_PLAIN = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
                      | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4))


def assert_same(a, b):
  assert type(a) is type(b)
  if isinstance(a, np.ndarray):
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
  elif isinstance(a, (list, tuple)):
    assert len(a) == len(b)
    for one, other in zip(a, b):
      assert_same(one, other)
  elif isinstance(a, dict):
    assert list(a) == list(b)
    for key, value in a.items():
      assert_same(value, b[key])
  else:
    assert a == b


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(content=_PLAIN, protocol=st.integers(0, 5))
def test_plain_content_comes_back_from_a_pickle(content, protocol, tmp_path_factory):
  path = tmp_path_factory.getbasetemp() / "content.pkl"
  path.write_bytes(pickle.dumps(content, protocol))
  assert_same(plain_pickle.load(path), content)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(array=arrays.arrays(
    st.sampled_from(["<f2", "f4", ">f8", "i1", ">u4", "?", "<U3", "S2", "c8"]),
    arrays.array_shapes(min_dims=0, min_side=0)), packed=st.booleans(), fortran=st.booleans())
def test_arrays_come_back_from_an_archive(array, packed, fortran, tmp_path_factory):
  path = tmp_path_factory.getbasetemp() / "content.npz"
  path.unlink(missing_ok=True)
  array = np.asarray(array, order="F" if fortran else "C")
  (np.savez_compressed if packed else np.savez)(path, x=array)
  if array.dtype.kind == "c":
    with pytest.raises(RawDataError, match="holds complex64, not numbers or text"):
      plain_npz.read(path)
    return
  found = plain_npz.read(path)["x"]
  assert found.dtype == array.dtype
  np.testing.assert_array_equal(found, array)


# ---- the fuzzer ------------------------------------------------------------------------------

_MISDEEDS = {
    b"index": lambda: [][1],
    b"loop": lambda: list(iter(int, 1)),
    b"large": lambda: _swallowed(lambda: bytearray(2**31)),
    b"passwd": lambda: open("/etc/passwd").close(),
    b"write": lambda: open(os.devnull, "w").close(),
    b"system": lambda: os.system("true"),
    b"crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"wrong": lambda: _check(False),
    b"lines": lambda: _refuse("two\nlines"),
    b"fine": lambda: _refuse("one line"),
}


def _swallowed(function):
  try:
    function()
  except Exception:
    _refuse("anything")


def _refuse(message):
  raise RawDataError(message)


def _check(sound):
  assert sound


def _misbehave(path):
  data = path.read_bytes()
  for word, misdeed in _MISDEEDS.items():
    if word in data:
      misdeed()


def misbehaving(word: bytes) -> parsers.Parser:
  """A parser that does the wrong thing at one word, of which the others are mutations."""
  return parsers.Parser("file", lambda: [b"x"], _misbehave, (sys.modules[__name__],),
                        (word,), seconds=0.1)


@linux
@pytest.mark.parametrize("word, finding", [
    (b"index", "IndexError at test_fuzz.py"),
    pytest.param(b"loop", "TooSlow at test_fuzz.py", marks=pytest.mark.slow),
    (b"large", "allocates beyond the bound, at test_fuzz.py"), (b"passwd", "opens /etc/passwd"),
    (b"write", "opens "), (b"system", "os.system"), (b"crash", "ends the process: SIGSEGV"),
    (b"wrong", "AssertionError at test_fuzz.py"), (b"fine", None),
    (b"lines", "an RawDataError whose message does not print")])
def test_misdeeds_are_found_and_kept(word, finding, tmp_path, monkeypatch):
  monkeypatch.setattr(campaign, "_MOST_CRASHES", 2)
  tally = campaign.run(functools.partial(misbehaving, word), 30, tmp_path)
  assert tally.valid > 2 or word == b"crash"  # which takes along what was not told yet
  if finding is None:
    assert not tally.findings and tally.refused["RawDataError"] >= 1
    return
  assert tally.findings and all(name.startswith(finding) for name in tally.findings)
  count, file = next(iter(tally.findings.values()))
  assert count >= 1 and word in pathlib.Path(file).read_bytes()
  assert finding in pathlib.Path(file).with_suffix(".txt").read_text()


def _sleep(path):
  time.sleep(60)


def sleeping() -> parsers.Parser:
  return parsers.Parser("file", lambda: [b"x"], lambda path: _sleep(path), (campaign,))


@linux
def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
  monkeypatch.setattr(campaign, "_PATIENCE", 2)
  monkeypatch.setattr(campaign, "_MOST_CRASHES", 1)
  tally = campaign.run(sleeping, 5, tmp_path)
  assert [name.partition(",")[0] for name in tally.findings] == [
      "hangs where no signal reaches it"]


def test_the_same_seed_gives_the_same_mutations():
  import random
  made = [[mutations.Mutator(random.Random(seed), [b"token"])(b"some text 12.5" * 3, b"other")
           for _ in range(1)] for seed in (1, 1, 2)]
  assert made[0] == made[1] != made[2]
  mutate = mutations.Mutator(random.Random(3), [b"token"], most=50)
  found = [mutate(b"some text 12.5", b"other") for _ in range(500)]
  assert len(set(found)) > 400 and max(map(len, found)) == 50
  assert any(b"token" in data for data in found) and any(b"1e999" in data for data in found)


def test_checksums_are_repaired(tmp_path):
  seed, = parsers._npz_seeds()[:1]
  changed = bytearray(seed)
  at = seed.index(b"NUMPY") + 200
  changed[at] ^= 1
  for data, sound in ((changed, False), (parsers.repair_zip(bytes(changed)), True)):
    (tmp_path / "a.npz").write_bytes(data)
    with np.load(tmp_path / "a.npz") as archive:
      if sound:
        assert archive["pose2d"].shape == (1, 2, 17, 2)
      else:
        with pytest.raises(Exception, match="Bad CRC-32"):
          archive["pose2d"]
