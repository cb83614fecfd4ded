"""Preparation: interrupted, killed, repeated, short of space; and its command."""
import dataclasses
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from actionjax import workers
from actionjax.data import catalogue, own
from actionjax.data.builders import utd_mhad
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError, UserError
from tests import preparing, raw_own, raw_utd

ROOT = pathlib.Path(__file__).parents[1]
CLIPS = [(a, s, 1) for a in (1, 2, 3) for s in (1, 2, 3)]


def prepare(raw, data, processes=1, report=raw_own.quiet, **kwargs):
  return preparation.prepare("utd_mhad", str(raw), str(data), workers=processes, report=report,
                             **kwargs)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  return raw_utd.write(tmp_path_factory.mktemp("raw"), CLIPS)


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory):
  """An uninterrupted preparation's files."""
  data = tmp_path_factory.mktemp("reference")
  prepare(raw, data)
  return preparing.digests(data)


def fail_after(monkeypatch, count, error):
  """Makes the builder raise after so many clips."""
  encode, calls = utd_mhad.encode, []

  def failing(clip, **options):
    calls.append(clip.clip_id)
    if len(calls) > count:
      raise error
    return encode(clip, **options)

  monkeypatch.setattr(utd_mhad, "DATASET", dataclasses.replace(utd_mhad.DATASET, encode=failing))
  return calls


def test_summary_and_report(raw, tmp_path):
  lines = []
  summary = prepare(raw, tmp_path, report=lines.append)
  assert summary["path"] == str(tmp_path / "utd_mhad/cropped/1.1.0")
  assert (summary["done"], summary["clips"], summary["frames"]) == (True, 9, 36)
  assert summary["protocols"] == {"cross_subject": {"train": 6, "test": 3}}
  assert {k: v for k, v in summary["classes"].items() if v} == {
      "swipe_left": 3, "swipe_right": 3, "wave": 3}
  assert "cross_subject: 6 train, 3 test" in lines
  assert any("swipe_left 3, swipe_right 3, wave 3, clap 0" in line for line in lines)


def test_only_finished_files_are_left(reference):
  folder = "utd_mhad/cropped"
  assert sorted(reference) == sorted(f"{folder}/{name}" for name in (
      ".lock", "1.1.0/dataset_info.json", "1.1.0/features.json", "1.1.0/index.npz",
      "1.1.0/info.json", "1.1.0/utd_mhad-clips.array_record-00000-of-00001"))


def test_worker_processes_give_the_same_bytes(raw, tmp_path, reference):
  prepare(raw, tmp_path, processes=2)
  assert preparing.digests(tmp_path) == reference


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"),
                                   OSError(errno.ENOSPC, "No space left on device")])
def test_interrupted_goes_on_with_the_same_bytes(raw, tmp_path, reference, monkeypatch, error):
  calls = fail_after(monkeypatch, 4, error)
  with pytest.raises(type(error)):
    prepare(raw, tmp_path)
  with pytest.raises(UserError, match="is not prepared"):
    catalogue.open_dataset(tmp_path, "utd_mhad")
  monkeypatch.undo()
  again = fail_after(monkeypatch, 99, error)
  lines = []
  prepare(raw, tmp_path, report=lines.append)
  assert "going on: 4 of 9 clips are encoded already" in lines
  assert len(again) == 5 and not set(again) & set(calls[:4])
  assert preparing.digests(tmp_path) == reference


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_half_written_clips_are_encoded_again(raw, tmp_path, reference, monkeypatch, damage):
  fail_after(monkeypatch, 4, RuntimeError("broken"))
  with pytest.raises(RuntimeError):
    prepare(raw, tmp_path)
  monkeypatch.undo()
  staged = sorted((tmp_path / "utd_mhad/cropped").glob(".staging-*/*.clip"))
  staged[0].write_bytes(damage or staged[0].read_bytes()[:-9])
  (staged[0].parent / "x.1.tmp").write_bytes(b"")
  again = fail_after(monkeypatch, 99, None)
  prepare(raw, tmp_path)
  assert len(again) == 6
  assert preparing.digests(tmp_path) == reference


def test_a_failing_writer_leaves_nothing_that_looks_finished(raw, tmp_path, reference,
                                                             monkeypatch):
  for place in ("write", "read_back"):
    def fail(*args):
      raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(f"actionjax.data.preparing.tfds_dataset.{place}", fail)
    with pytest.raises(OSError):
      prepare(raw, tmp_path)
    names = {path.name for path in (tmp_path / "utd_mhad/cropped").iterdir()}
    assert len(names) == 2 and ".lock" in names  # and the staged clips
    monkeypatch.undo()
  prepare(raw, tmp_path)
  assert preparing.digests(tmp_path) == reference


def test_a_full_disk_is_seen_before_copying(raw, tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
  with pytest.raises(OSError) as caught:
    prepare(raw, tmp_path)
  assert caught.value.errno == errno.ENOSPC and str(tmp_path) in caught.value.filename


def test_leftovers_are_swept(raw, tmp_path, reference):
  home = tmp_path / "utd_mhad/cropped"
  for name in (".building-1.1.0/utd_mhad", ".staging-1.1.0-0123", "incomplete.ABCDEF_1.1.0",
               ".old-1.1.0"):
    (home / name).mkdir(parents=True)
    (home / name / "file").write_text("left")
  (home / "1.1.0").mkdir()  # a folder at its place, but nothing finished
  (home / "1.1.0/dataset_info.json").write_text("{}")
  prepare(raw, tmp_path)
  assert preparing.digests(tmp_path) == reference
  (home / ".staging-1.1.0-0123").mkdir()
  (home / "incomplete.ABCDEF_2.0.0").mkdir()  # another version's: not ours to remove
  prepare(raw, tmp_path)
  assert sorted(p.name for p in home.iterdir()) == [".lock", "1.1.0", "incomplete.ABCDEF_2.0.0"]


def test_nothing_to_do(raw, tmp_path, reference, monkeypatch):
  prepare(raw, tmp_path)
  calls = fail_after(monkeypatch, 0, RuntimeError)
  for folder in (raw, None):
    lines = []
    summary = preparation.prepare("utd_mhad", folder and str(folder), str(tmp_path),
                                  report=lines.append)
    assert lines[folder is not None] == "utd_mhad/cropped is prepared already: nothing to do"
    assert folder is None or lines[0] == "9 of the 861 clips of UTD-MHAD are here"
    assert not summary["done"] and summary["clips"] == 9
    assert summary["protocols"]["cross_subject"] == {"train": 6, "test": 3}
  assert not calls and preparing.digests(tmp_path) == reference


def test_other_raw_files_replace_the_dataset_when_finished(tmp_path, monkeypatch):
  raw, data = tmp_path / "raw", tmp_path / "data"
  raw_utd.write(raw, CLIPS[:3])
  prepare(raw, data)
  before = preparing.digests(data / "utd_mhad/cropped/1.1.0")
  raw_utd.write(raw, CLIPS[3:5])
  fail_after(monkeypatch, 1, RuntimeError("broken"))
  with pytest.raises(RuntimeError):
    prepare(raw, data)
  assert preparing.digests(data / "utd_mhad/cropped/1.1.0") == before  # still the old one, whole
  monkeypatch.undo()
  lines = []
  assert prepare(raw, data, report=lines.append)["clips"] == 5
  assert "was made from other raw files" in lines[1] and "going on: 1 of 5" in lines[3]


def test_fingerprint_tells_names_and_sizes(tmp_path):
  raw = raw_utd.write(tmp_path / "raw", CLIPS[:2])
  first = preparation.fingerprint(utd_mhad.find(str(raw)))
  assert first == preparation.fingerprint(utd_mhad.find(str(raw))[::-1])
  assert first == preparation.fingerprint(
      utd_mhad.find(str(raw_utd.zipped(raw, tmp_path / "zips"))))
  file = raw / "Depth/a1_s1_t1_depth.mat"
  file.write_bytes(file.read_bytes() + b"\0")
  assert first != preparation.fingerprint(utd_mhad.find(str(raw)))


def test_two_runs_do_not_meet(raw, tmp_path):
  home = tmp_path / "utd_mhad/cropped"
  with preparation._lock(home):
    with pytest.raises(UserError, match=f"another run is preparing {home}"):
      prepare(raw, tmp_path)
  assert prepare(raw, tmp_path)["done"]


def test_mistakes_are_named(tmp_path, raw):
  with pytest.raises(UserError, match="--dataset=utd_mhad --raw_dir="):
    preparation.prepare("utd_mhad", None, str(tmp_path), report=raw_own.quiet)
  with pytest.raises(UserError, match="unknown dataset 'nope'; known: .*utd_mhad"):
    preparation.prepare("nope", None, str(tmp_path), report=raw_own.quiet)
  with pytest.raises(UserError, match="unknown variant"):
    prepare(raw, tmp_path, variant="big")
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write to .*file"):
    prepare(raw, tmp_path / "file")


def _raise_of(number):
  if number == 3:
    raise RawDataError("file 3 is broken")
  if number == 5:
    os.kill(os.getpid(), signal.SIGKILL)
  return number * 10


@pytest.mark.slow
def test_worker_pool():
  assert sorted(workers.run(_raise_of, [1, 2, 4], 2)) == [10, 20, 40]
  with pytest.raises(RawDataError, match="file 3 is broken"):
    list(workers.run(_raise_of, list(range(5)), 2))
  with pytest.raises(UserError, match="worker process was killed.*goes on"):
    list(workers.run(_raise_of, [1, 2, 5], 2))


@pytest.mark.slow
def test_command_prepares_once_and_says_so(raw, tmp_path, reference):
  flags = ("--dataset=utd_mhad", f"--raw_dir={raw}", f"--data_dir={tmp_path}", "--workers=2")
  first = preparing.run_command(*flags)
  assert first.returncode == 0, first.stderr
  assert "cross_subject: 6 train, 3 test" in first.stdout and first.stderr == ""
  assert preparing.digests(tmp_path) == reference
  start = time.monotonic()
  second = preparing.run_command(*flags)
  assert time.monotonic() - start < 5
  assert "utd_mhad/cropped is prepared already: nothing to do" in second.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("flags, message", [
    (("--dataset=nope",), "error: unknown dataset 'nope'; known: "),
    ((), "error: --dataset is missing; known: "),
    (("--dataset=utd_mhad", "extra"), "error: unexpected argument 'extra'"),
    (("--dataset=utd_mhad", "--raw_dir=/nowhere"), "error: /nowhere is not a folder"),
])
def test_command_reports_mistakes_in_one_line(tmp_path, flags, message):
  result = preparing.run_command(f"--data_dir={tmp_path}", *flags)
  assert result.returncode == 1
  assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
  assert result.stdout == ""


def session_processes(session):
  """Living processes of a session, by their ids."""
  found = []
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      state, fields = "", (entry / "stat").read_text().rpartition(")")[2].split()
      state = fields[0]
      if int(fields[3]) == session and state != "Z":
        found.append(int(entry.name))
    except (OSError, ValueError):
      continue
  return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("dataset", ["utd_mhad", "folder:mine"])
def test_killed_run_leaves_no_process_and_is_continued(tmp_path, dataset):
  if dataset == "utd_mhad":
    home, version = "utd_mhad/cropped", utd_mhad.DATASET.version
    raw = raw_utd.write(tmp_path / "raw", [(a, s, 1) for a in range(1, 9) for s in range(1, 6)],
                        frames=25)
  else:
    home, version = "folder/mine", own.module("folder").VERSION
    raw = raw_own.folder(tmp_path / "raw", clips=2, size=(640, 480))
    for i in range(2, 20):
      for name in ("clap", "wave"):
        shutil.copy(raw / name / f"{i % 2}.mp4", raw / name / f"{i}.mp4")

  def prepare(data, report=raw_own.quiet):
    preparation.prepare(dataset, str(raw), str(tmp_path / data), workers=1, report=report)

  prepare("whole")
  line, options = preparing.command(f"--dataset={dataset}", f"--raw_dir={raw}", "--workers=2",
                          f"--data_dir={tmp_path / 'killed'}", start_new_session=True)
  home, staged, kills = tmp_path / "killed" / home, 0, 0
  while kills < 3:  # killed at three different moments, with ever more clips there
    process = subprocess.Popen(line, **options)
    deadline = time.monotonic() + 60
    while len(list(home.glob(".staging-*/*.clip"))) < staged + 5:
      assert process.poll() is None and time.monotonic() < deadline, process.communicate()
      time.sleep(0.002)
    assert len(session_processes(process.pid)) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kills += 1
    deadline = time.monotonic() + 5
    while session_processes(process.pid):
      assert time.monotonic() < deadline, "a worker outlived the killed run"
      time.sleep(0.01)
    staged = len(list(home.glob(".staging-*/*.clip")))
    assert 5 * kills <= staged < 40
    assert not (home / version).exists()
  lines = []
  prepare("killed", lines.append)
  assert f"going on: {staged} of 40 clips are encoded already" in lines
  assert preparing.digests(tmp_path / "killed") == preparing.digests(tmp_path / "whole")
