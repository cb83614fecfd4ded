"""What an evaluation found, on disk and back."""
import dataclasses
import pathlib

import numpy as np

from actionjax.data.formats import plain_npz
from actionjax.errors import UserError
from actionjax.evaluators import metrics

FILE = "scores.npz"
_STREAM = "probabilities_"


@dataclasses.dataclass(frozen=True)
class Scores:
  """What an evaluation found, for every clip of the part in the index' order.

  Attributes:
    probabilities: float32[n,N], aggregated over views.
    labels: int32[n].
    readable: bool[n]; rows of clips that could not be read are False and count for nothing.
    streams: probabilities of a model's pathways by name, where it has several.
  """
  probabilities: np.ndarray
  labels: np.ndarray
  readable: np.ndarray
  streams: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def metrics(self) -> dict:
    """What `metrics.summarise` gives of the clips that could be read, and how many could not.

    With several pathways, `streams` holds each one's own top1, top5 and mean_class_accuracy.

    Raises:
      UserError: none could be read.
    """
    if not self.readable.any():
      raise UserError(f"none of the {len(self.readable)} clips could be read")
    labels = self.labels[self.readable]
    found = metrics.summarise(self.probabilities[self.readable], labels) | {
        "unreadable": int((~self.readable).sum())}
    if self.streams:
      found["streams"] = {name: metrics.summarise(stream[self.readable], labels)
                          for name, stream in self.streams.items()}
    return found

  def save(self, directory: pathlib.Path, clip_ids: np.ndarray) -> None:
    """Writes `scores.npz` and `confusion.npy` (of the clips that could be read).

    Args:
      clip_ids: str[n].
    """
    directory.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        directory / FILE, probabilities=self.probabilities, labels=self.labels,
        readable=self.readable, clip_ids=clip_ids,
        **{_STREAM + name: stream for name, stream in self.streams.items()})
    np.save(directory / "confusion.npy", metrics.confusion_matrix(
        self.labels[self.readable], metrics.top_1(self.probabilities[self.readable]),
        self.probabilities.shape[1]))


def load(path: pathlib.Path) -> tuple[Scores, np.ndarray]:
  """Scores and clip ids of a `scores.npz`. Raises UserError where it is none."""
  arrays = plain_npz.read(path)
  lacking = {"probabilities", "labels", "readable", "clip_ids"} - set(arrays)
  if lacking:
    raise UserError(f"{path} holds no scores of an evaluation: it lacks "
                    f"{', '.join(sorted(lacking))}")
  streams = {name.removeprefix(_STREAM): array for name, array in arrays.items()
             if name.startswith(_STREAM)}
  return (Scores(arrays["probabilities"], arrays["labels"], arrays["readable"], streams),
          arrays["clip_ids"])


def find(path: str | pathlib.Path) -> pathlib.Path:
  """The `scores.npz` at or below a path: a file, an evaluation's folder, or a workdir, whose
  evaluation `test` counts, or else the last.

  Raises:
    UserError: there is none.
  """
  root = pathlib.Path(path)
  steps = sorted(root.glob(f"*/{FILE}"), reverse=True)
  steps.sort(key=lambda file: file.parent.name.partition("_")[2] != "test")
  for found in (root, root / FILE, *steps):
    if found.is_file():
      return found
  raise UserError(f"{root} holds no {FILE}; give a workdir, an evaluation's folder, or the file")
