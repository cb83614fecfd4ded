"""Files in zip archives: names that lead out, and members that unpack to more than there is."""
import json
import re
import tracemalloc
import zipfile

import numpy as np
import pytest

from actionjax.data.builders import nucla, utd_mhad
from actionjax.data.formats import archives, zip_members
from actionjax.errors import RawDataError
from tests import raw_utd

CLIP = "a08_s03_e01_v02"
ANY = re.compile(".*")
OUTSIDE = ("../../outside/", "/etc/", "C:\\outside\\", "x/../../../outside/", "\\\\host\\share\\")


def skeleton() -> bytes:
  pose = np.random.default_rng(0).uniform(2, 3, (2, 20, 3))
  return json.dumps({"file_name": CLIP, "skeletons": pose.tolist(), "label": 7}).encode()


def everything(root) -> set[str]:
  return {path.relative_to(root).as_posix() for path in root.rglob("*")}


@pytest.mark.parametrize("folder", OUTSIDE)
def test_names_that_lead_out_are_read_from_the_archive(tmp_path, folder, monkeypatch):
  """Nothing is ever unpacked by its name: members are read in place, copies have names of ours."""
  raw, temporary = tmp_path / "a/raw", tmp_path / "temporary"
  raw.mkdir(parents=True)
  temporary.mkdir()
  monkeypatch.setattr("tempfile.tempdir", str(temporary))
  with zipfile.ZipFile(raw / "all.zip", "w") as archive:
    archive.writestr(f"{folder}/{CLIP}.json", skeleton())
  with zipfile.ZipFile(raw / "Skeleton.zip", "w") as archive:
    archive.write(raw_utd.write(tmp_path / "utd", [(1, 1, 1)]) / "Skeleton/a1_s1_t1_skeleton.mat",
                  f"{folder}/a1_s1_t1_skeleton.mat")
  before = everything(tmp_path)
  clip, = nucla.find(str(raw), video=False)
  assert clip.skeleton.archive == str(raw / "all.zip")
  assert nucla.encode(clip, video=False)["num_frames"] == 2
  clip, = utd_mhad.find(str(raw), video=False)
  assert utd_mhad.encode(clip, video=False)["num_frames"] == 4
  with clip.skeleton.on_disk() as copy:
    assert copy.startswith(f"{temporary}/") and "outside" not in copy
    assert everything(temporary) == {copy[len(str(temporary)) + 1:]}
  assert everything(tmp_path) == before


def test_a_link_in_an_archive_is_its_text(tmp_path):
  """A member that says it is a symbolic link leads nowhere."""
  (tmp_path / "secret.json").write_bytes(skeleton())
  (tmp_path / "raw").mkdir()
  with zipfile.ZipFile(tmp_path / "raw/all.zip", "w") as archive:
    member = zipfile.ZipInfo(f"{CLIP}.json")
    member.external_attr = 0o120777 << 16
    archive.writestr(member, str(tmp_path / "secret.json"))
  clip, = nucla.find(str(tmp_path / "raw"), video=False)
  assert clip.skeleton.read() == str(tmp_path / "secret.json").encode()
  with pytest.raises(RawDataError, match="is not a readable JSON file"):
    nucla.encode(clip, video=False)


def only(path) -> archives.Source:
  (_, source), = archives.listing(str(path.parent), ANY)
  return source


def every_way(source):
  yield source.read
  yield lambda: list(source.lines())
  yield lambda: source.on_disk().__enter__()


def test_bombs_are_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(zip_members, "MOST_BYTES", 2**16)
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("zeros", bytes(10**6))
  for function in every_way(only(path)):
    with pytest.raises(RawDataError, match="a.zip:zeros cannot be read .it unpacks to 1000000"):
      function()
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("zeros", bytes(10**4))
  assert only(path).read() == bytes(10**4)


def test_a_dictionary_of_gigabytes_is_refused(tmp_path):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
    archive.writestr("text", b"text" * 100)
  assert only(path).read() == b"text" * 100
  data = bytearray(path.read_bytes())
  at = 30 + len("text") + 5
  assert int.from_bytes(data[at:at + 4], "little") == 2**23  # LZMA's default
  data[at:at + 4] = (2**31).to_bytes(4, "little")
  path.write_bytes(data)
  for function in every_way(only(path)):
    with pytest.raises(RawDataError, match="asks for a dictionary of 2147483648 bytes"):
      function()


def test_a_member_larger_than_its_archive_is_refused(tmp_path):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x", b"0" * 100)
  data = bytearray(path.read_bytes())
  entry = data.index(b"PK\x01\x02")
  data[entry + 20:entry + 24] = (2**30).to_bytes(4, "little")  # packed bytes, in the directory
  path.write_bytes(data)
  tracemalloc.start()
  for function in every_way(only(path)):
    with pytest.raises(RawDataError, match=f"claims {2**30} packed bytes of an archive of "):
      function()
  assert tracemalloc.get_traced_memory()[1] < 2**22
  tracemalloc.stop()


def test_copies_are_written_piece_by_piece(tmp_path):
  import tracemalloc
  path = tmp_path / "a.zip"
  content = np.random.default_rng(0).bytes(2**24)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("video.avi", content)
  source = only(path)
  tracemalloc.start()
  with source.on_disk() as copy:
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    assert copy.endswith(".avi")
    with open(copy, "rb") as file:
      assert file.read() == content


def test_names_that_do_not_print(tmp_path):
  path = tmp_path / "a.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a\nb\x1b[31m", b"x" * 100)
  data = path.read_bytes()
  path.write_bytes(data.replace(b"x" * 100, b"y" * 100))
  with pytest.raises(RawDataError) as error:
    only(path).read()
  assert str(error.value).isprintable() and r"a\nb\x1b[31m" in str(error.value)
