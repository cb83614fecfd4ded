"""Clips encoded in an Apache Beam pipeline, on whatever runner its options name.

  python -m actionjax.prepare --dataset=ntu60 --raw_dir=/shared/ntu --data_dir=/shared/prepared \\
      --beam --beam_options="--runner=FlinkRunner --flink_master=HOST:8081"

Without options the pipeline runs in processes of this machine. Workers elsewhere have to have
actionjax installed and see the raw files and `--data_dir` under the same paths (a shared file
system): they read the one and stage encoded clips in the other. The dataset is put together where
the command was given, out of the staged clips, so that its files are bit by bit those of a run
without Beam, and a run that was ended goes on, with Beam or without.

TFDS has a Beam writer of its own, which is not used: it orders the records by hashes and starts
from zero after an interruption.
"""
import argparse
import errno
import logging
import os
import pickle
import shlex

from actionjax.errors import UserError

# DirectRunner would first try to download another runner.
_LOCAL = "FnApiRunner"


def _flags(options: str, processes: int) -> list[str]:
  """The pipeline's options, those for this machine added where no runner is named."""
  try:
    given = shlex.split(options)
  except ValueError as error:
    raise UserError(f"--beam_options={options} cannot be read ({error})") from None
  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  parser.add_argument("--runner")
  if parser.parse_known_args(given)[0].runner is None:
    mode = "multi_processing" if processes > 1 else "in_memory"
    return [f"--runner={_LOCAL}", f"--direct_running_mode={mode}",
            f"--direct_num_workers={processes}", *given]
  return given


def title(options: str, processes: int) -> str:
  """What the pipeline runs with, for the user."""
  return " ".join(_flags(options, processes))


def _work(function, task: bytes) -> None:
  import cv2
  cv2.setNumThreads(1)  # the runner starts as many workers as there are cores
  function(pickle.loads(task))


def run(function, tasks: list, options: str, processes: int) -> None:
  """Calls function(task) for each task in a pipeline; returns when all are done.

  Args:
    function: picklable; tasks may be done twice, where a worker is lost. What it returns is lost.
    tasks: picklable values.
    options: of the pipeline, as on a command line.
    processes: of the local runner.

  Raises:
    UserError: Beam is not installed, or does not take the options.
    OSError: the disk is full.
  """
  flags = _flags(options, processes)
  try:
    import apache_beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError:
    raise UserError("--beam needs Apache Beam: pip install 'actionjax[beam]'") from None
  if not tasks:
    return
  logging.getLogger("apache_beam").setLevel(logging.ERROR)
  try:
    given = PipelineOptions(flags)
    pipeline = apache_beam.Pipeline(options=given)
  except (SystemExit, ValueError) as error:  # argparse ends the process
    raise UserError(f"--beam_options={options} is not taken by Beam ({error})") from None
  # Only bytes travel: Beam need not know how to encode a builder's raw clips.
  steps = pipeline | "clips" >> apache_beam.Create([pickle.dumps(task) for task in tasks])
  steps = steps | "spread" >> apache_beam.Reshuffle()
  steps | "encode" >> apache_beam.Map(lambda task: _work(function, task))
  try:
    pipeline.run().wait_until_finish()
  except Exception as error:
    # A worker's error arrives as text.
    if f"[Errno {errno.ENOSPC}]" in str(error):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
    raise
