"""The benchmark of preparation: its videos, its watch over processes, its sums."""
import subprocess
import sys

import pytest

from actionjax.benchmarks import preparation, processes
from actionjax.data.clips import videos


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")
def test_preparation_is_watched(capsys):
  found = preparation.run(clips=2, seconds=20, size=(320, 240), length=0.2)
  assert list(found["memory"]) == [10.0, 20]
  for usage in (*found["memory"].values(), found["usage"]):
    # A process that imports NumPy, TFDS and PyAV, and does something.
    assert usage.peak > 50e6 and usage.seconds > usage.processor / 4 > 0 <= usage.waiting
  assert sum(found["shares"].values()) == pytest.approx(1)
  assert all(share > 0 for share in found["shares"].values()) and len(found["shares"]) == 4
  assert "growth" in capsys.readouterr().out


def test_repeated_packets_are_a_video_of_the_whole_length(tmp_path):
  preparation.video(tmp_path / "a.mkv", 25, (64, 48))
  facts = videos.scan(tmp_path / "a.mkv")
  assert (facts.count, facts.fps, facts.width, facts.height) == (750, 30, 64, 48)


@pytest.mark.skipif(sys.platform != "linux", reason="watches processes through /proc")
def test_processes_are_watched():
  code = "import time; x = bytearray(200 * 2**20); time.sleep(0.5)"
  code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
  usage = processes.watch(subprocess.Popen([sys.executable, "-c", code], start_new_session=True))
  assert usage.peak > 200 * 2**20 and usage.seconds > 0.5
