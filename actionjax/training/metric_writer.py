"""Metrics to a JSON-lines file and to TensorBoard event files."""
import json
import os
import pathlib

from tensorboardX import SummaryWriter


class MetricWriter:
  """Writes rows {"step": int, name: float, ...}; a resumed run drops rows it will write again.

  The JSON-lines file is the one that this package's own reports read.
  """

  def __init__(self, directory: pathlib.Path, *, step: int):
    """Opens the files, cutting rows after `step`, the step that the run goes on from."""
    directory.mkdir(parents=True, exist_ok=True)
    self._path = directory / "metrics.jsonl"
    kept = [row for row in read(self._path) if row["step"] <= step]
    temporary = self._path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, self._path)
    self._file = self._path.open("a")
    self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)

  def write(self, step: int, row: dict) -> None:
    """Appends one row, with `step` first."""
    row = {key: float(value) for key, value in row.items()}
    self._file.write(json.dumps({"step": step, **row}) + "\n")
    self._file.flush()
    for key, value in row.items():
      self._board.add_scalar(key, value, step)

  def close(self) -> None:
    """Flushes and closes both files."""
    self._file.close()
    self._board.close()


def read(path: pathlib.Path) -> list[dict]:
  """The rows of a metrics file; a last line cut short by a kill is left out."""
  rows = []
  if path.exists():
    for line in path.read_text().splitlines():
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError:
        break
  return rows
