"""What preparing a user's videos takes: memory by a video's length, and where the time goes.

The videos are generated: a loop of ten seconds is encoded once and its packets are written again
and again, so that an hour of video costs seconds to make and is read as any other. The command
runs as users run it; its processes are watched through /proc (Linux).
"""
import cProfile
import pathlib
import pstats
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import numpy as np

from actionjax import workers
from actionjax.benchmarks.processes import Usage, watch
from actionjax.data.preparing import preparation
from actionjax.errors import UserError

MEGABYTE = 2**20
# Peak memory of an hour's video may be above that of ten seconds' by so much (MB).
MOST_GROWTH = 300
_RATE, _LOOP = 30, 10  # frames a second, seconds
# Functions that the time of encoding clips is divided by, and what they do.
_PARTS = {("videos.py", "_decode"): "decoding", ("videos.py", "_cut"): "reduction and colours",
          ("images.py", "encode_jpeg"): "JPEG encoding"}


def run(clips: int = 300, seconds: float = 3600, size=(1920, 1080), length: float = 3) -> dict:
  """Measures and prints both.

  Args:
    clips: videos that the time is measured with.
    seconds: of the long video, which is 320x240.
    size: width and height of the others. length: of each, seconds.

  Returns:
    "memory": {seconds: `Usage`}; "usage": that of preparing all clips; "shares": part of the
    work -> share of the processor time of one process.

  Raises:
    UserError: on another system than Linux.
  """
  if sys.platform != "linux":
    raise UserError("--preparation watches processes through /proc, which only Linux has")
  with tempfile.TemporaryDirectory(prefix="preparation-") as folder:
    root = pathlib.Path(folder)
    memory = {duration: _memory(root / f"{duration:g}", duration) for duration in (10.0, seconds)}
    print(memory_table(memory), flush=True)
    raw = _clips(root / "clips", clips, size, length)
    usage = _prepare(raw, root / "prepared")
    shares = _shares(_clips(root / "few", min(clips, 4), size, length), root / "profiled")
  print(time_table(usage, shares, clips, size, length))
  return {"memory": memory, "usage": usage, "shares": shares}


def video(path: pathlib.Path, seconds: float, size: tuple[int, int], seed: int = 0) -> None:
  """Writes a video of moving patterns, 30 frames a second, MPEG-4 in Matroska.

  Args:
    path: of the file. seconds: its length. size: width and height. seed: of the patterns.
  """
  import av
  path.parent.mkdir(parents=True, exist_ok=True)
  frames = round(seconds * _RATE)
  with av.open(str(path), "w", format="matroska") as container:
    stream = container.add_stream("mpeg4", rate=_RATE)
    (stream.width, stream.height), stream.pix_fmt = size, "yuv420p"
    stream.bit_rate = 4 * size[0] * size[1]
    stream.time_base = Fraction(1, _RATE)
    loop = [packet for image in _images(min(frames, _LOOP * _RATE), size, seed)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24"))]
    loop += stream.encode()
    for number in range(frames):
      packet = loop[number % len(loop)]
      packet.pts = packet.dts = int(Fraction(number, _RATE) / packet.time_base)
      packet.stream = stream
      container.mux(packet)


def _images(count: int, size: tuple[int, int], seed: int):
  """Coarse noise that moves, with a little fine noise: neither flat nor hopeless to encode."""
  import cv2
  rng = np.random.default_rng(seed)
  width, height = size
  coarse = rng.integers(0, 256, (height // 20, width // 20, 3), np.uint8)
  large = cv2.resize(coarse, (width + count, height), interpolation=cv2.INTER_CUBIC)
  fine = rng.integers(0, 12, (height, width, 1), np.uint8)
  for t in range(count):
    yield cv2.add(large[:, t:t + width], np.repeat(fine, 3, 2))


def _memory(root: pathlib.Path, seconds: float) -> Usage:
  """Of preparing a video of so many seconds beside one of a second."""
  video(root / "raw/long/0.mkv", seconds, (320, 240))
  video(root / "raw/short/0.mkv", 1, (320, 240), seed=1)
  return _prepare(root / "raw", root / "prepared")


def _clips(root: pathlib.Path, count: int, size, seconds: float) -> pathlib.Path:
  """A folder of two classes with so many videos, of which at most four are different."""
  for i in range(count):
    path = root / f"class{i % 2}/{i:04d}.mkv"
    if i < 4:
      video(path, seconds, size, seed=i)
    else:
      path.write_bytes((root / f"class{i % 2}/{i % 4:04d}.mkv").read_bytes())
  return root


def _prepare(raw: pathlib.Path, data: pathlib.Path) -> Usage:
  with tempfile.TemporaryFile("w+") as log:
    process = subprocess.Popen(
        [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", "--name=benchmark",
         f"--raw_dir={raw}", f"--data_dir={data}"], stdout=log, stderr=log, start_new_session=True)
    usage = watch(process)
    if process.returncode:
      log.seek(0)
      raise RuntimeError(f"preparing {raw} failed: {log.read()[-1000:]}")
  return usage


def _shares(raw: pathlib.Path, data: pathlib.Path) -> dict[str, float]:
  """Part of the work -> share of one process's processor time, after everything is imported."""
  profiles = []
  for name in ("warm", "measured"):
    profile = cProfile.Profile(time.process_time)  # whatever else the machine does
    profile.runcall(preparation.prepare, f"folder:{name}", str(raw), str(data), workers=1,
                    report=lambda line: None)
    profiles.append(profile)
  stats = pstats.Stats(profiles[-1])
  found = dict.fromkeys(_PARTS.values(), 0.0)
  for (file, _, function), (_, _, _, cumulative, _) in stats.stats.items():
    part = _PARTS.get((pathlib.Path(file).name, function))
    if part:
      found[part] += cumulative / stats.total_tt
  return found | {"all else": 1 - sum(found.values())}


def memory_table(memory: dict[float, Usage]) -> str:
  """What `run` found of memory, as text."""
  lines = [f"{'video':>8}{'peak of all processes':>24}{'time':>10}"]
  for seconds, usage in memory.items():
    lines.append(f"{seconds:>6.0f} s{usage.peak / MEGABYTE:>21.0f} MB{usage.seconds:>8.1f} s")
  short, long = (usage.peak / MEGABYTE for usage in memory.values())
  lines.append(f"growth {long - short:.0f} MB; the bar is {MOST_GROWTH} MB: "
               f"{'held' if long - short <= MOST_GROWTH else 'NOT HELD'}")
  return "\n".join(lines)


def time_table(usage: Usage, shares: dict[str, float], clips: int, size, length: float) -> str:
  """What `run` found of time, as text."""
  cores = workers.default_workers()
  whole = usage.seconds * cores
  lines = [f"{clips} videos of {size[0]}x{size[1]}, {length:g} s each, {cores} workers: "
           f"{usage.seconds:.1f} s, {clips / usage.seconds:.2f} clips/s, peak "
           f"{usage.peak / MEGABYTE:.0f} MB",
           f"cores in use {100 * usage.processor / whole:.0f} %, kept waiting by other programs "
           f"{100 * usage.waiting / whole:.0f} %, idle "
           f"{100 * max(0, 1 - (usage.processor + usage.waiting) / whole):.0f} %"]
  lines += [f"  {part:<20}{100 * share:>5.1f} %" for part, share in shares.items()]
  return "\n".join(lines)
