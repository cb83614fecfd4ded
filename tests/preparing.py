"""What tests of builders have in common: one clip encoded, or a folder prepared."""
import hashlib
import pathlib
import subprocess
import sys

from actionjax.data import catalogue
from actionjax.data.clips import record
from actionjax.data.preparing import preparation

ROOT = pathlib.Path(__file__).resolve().parent.parent


def encode(builder, folder, variant: str | None = None, clip: int = 0) -> dict:
  """A clip's record, without the detour over the disk; notes are left out."""
  dataset = builder.DATASET
  options = dataset.options(variant)
  made = dict(dataset.encode(dataset.find(str(folder), **options)[clip], **options))
  made.pop("notes", None)
  return record.complete(made)


def prepare(dataset: str, raw, data, variant: str | None = None, **options):
  """Prepares and opens; returns the dataset and the lines that the user sees."""
  lines = []
  preparation.prepare(dataset, str(raw), str(data), variant=variant, workers=1,
                      report=lines.append, **options)
  return catalogue.open_dataset(data, dataset, variant), lines


def digests(folder) -> dict[str, str]:
  """{relative path: sha256} of all files; names of locks and leftovers would show too."""
  return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
          for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()}


def command(*arguments, **options):
  """The command's line, and how tests start it."""
  return [sys.executable, "-m", "actionjax.prepare", *arguments], {
      "cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}


def run_command(*arguments):
  """Runs the command to its end."""
  line, options = command(*arguments)
  return subprocess.run(line, check=False, **options)
