"""Preparation in an Apache Beam pipeline: the same files as without, bit by bit."""
import dataclasses
import sys

import pytest

from actionjax.data.builders import synthetic_actions
from actionjax.data.preparing import beam, preparation, staging
from actionjax.errors import RawDataError, UserError
from tests import preparing, raw_own

IN_MEMORY = "--runner=FnApiRunner --direct_running_mode=in_memory"


def prepare(data, options=IN_MEMORY, report=raw_own.quiet, **kwargs):
  return preparation.prepare("synthetic_actions", data_dir=str(data), variant="tiny", workers=1,
                             report=report, beam=options, **kwargs)


@pytest.fixture(scope="module")
def installed():
  pytest.importorskip("apache_beam")


def test_the_same_files_as_without(installed, tiny_data_dir, tmp_path):
  lines = []
  assert prepare(tmp_path, report=lines.append)["clips"] == 48
  assert preparing.digests(tmp_path) == preparing.digests(tiny_data_dir)
  assert lines[0] == (f"preparing synthetic_actions/tiny: 48 clips, in a Beam pipeline "
                      f"({IN_MEMORY})")


@pytest.mark.slow
def test_processes_of_this_machine_by_the_command(installed, tiny_data_dir, tmp_path):
  flags = ("--dataset=synthetic_actions", "--variant=tiny", f"--data_dir={tmp_path}")
  result = preparing.run_command(*flags, "--beam", "--workers=2")
  assert result.returncode == 0, result.stderr
  assert "FnApiRunner --direct_running_mode=multi_processing --direct_num_workers=2" in (
      result.stdout)
  assert preparing.digests(tmp_path) == preparing.digests(tiny_data_dir)
  result = preparing.run_command(*flags, f"--beam_options={IN_MEMORY}")
  assert (result.returncode, result.stderr) == (
      1, "error: --beam_options says nothing without --beam\n")


_encoded = []


def _fail_after_20(clip, **options):
  # Of the module, so that Beam's workers in this process count in the same list.
  if len(_encoded) >= 20:
    raise RuntimeError("broken")
  _encoded.append(clip.clip_id)
  return synthetic_actions.encode(clip, **options)


def test_a_run_goes_on_with_beam_and_without(installed, tiny_data_dir, tmp_path, monkeypatch):
  for options in (IN_MEMORY, None):  # the pipeline fails first, then the loop
    _encoded.clear()
    monkeypatch.setattr(synthetic_actions, "DATASET",
                        dataclasses.replace(synthetic_actions.DATASET, encode=_fail_after_20))
    with pytest.raises(RuntimeError, match="broken"):
      prepare(tmp_path, options)
    monkeypatch.undo()
  lines = []
  prepare(tmp_path, report=lines.append)
  assert lines[1] == "going on: 40 of 48 clips are encoded already"
  assert preparing.digests(tmp_path) == preparing.digests(tiny_data_dir)


def test_unreadable_clips(installed, tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=4)
  (raw / "wave/2.mp4").write_bytes(b"broken")
  with pytest.raises(RawDataError, match="wave/2.mp4 .*; --unreadable=skip leaves such clips out"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", beam=IN_MEMORY)
  with pytest.raises(UserError, match="1 of 8 clips cannot be read, more than .* wave/2: "):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", beam=IN_MEMORY, unreadable="skip")
  options = dict(unreadable="skip", max_unreadable=0.2)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", beam=IN_MEMORY, **options)
  raw_own.prepare("folder:mine", raw, tmp_path / "without", **options)
  assert preparing.digests(tmp_path / "data") == preparing.digests(tmp_path / "without")


def test_workers_that_do_not_share_the_folder(installed, tmp_path, monkeypatch):
  raw = raw_own.folder(tmp_path / "raw", clips=1)
  put = staging._put

  def elsewhere(file, *pieces):
    put(tmp_path / "elsewhere" / file.name, *pieces)

  (tmp_path / "elsewhere").mkdir()
  monkeypatch.setattr(staging, "_put", elsewhere)
  with pytest.raises(UserError, match="2 clips of the pipeline did not arrive in .*, such as "
                                      "clap/0; --data_dir must be one folder"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", beam=IN_MEMORY)


def test_wrong_options_are_named(installed, tmp_path):
  with pytest.raises(UserError, match="--beam_options=--runner='x cannot be read"):
    prepare(tmp_path, "--runner='x")
  with pytest.raises(UserError, match="--beam_options=--runner=Nope is not taken by Beam"):
    prepare(tmp_path, "--runner=Nope")


def test_beam_is_asked_for(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(UserError, match=r"--beam needs Apache Beam: pip install 'actionjax\[beam\]'"):
    prepare(tmp_path)


def test_a_named_runner_gets_nothing_added():
  assert beam.title("--runner=FlinkRunner --flink_master=a:1", 4) == (
      "--runner=FlinkRunner --flink_master=a:1")
  assert beam.title("--save_main_session", 1) == (
      "--runner=FnApiRunner --direct_running_mode=in_memory --direct_num_workers=1 "
      "--save_main_session")
