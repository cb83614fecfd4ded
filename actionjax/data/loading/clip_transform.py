"""From a record to one row of a batch."""
import dataclasses
from typing import Literal

import numpy as np

from actionjax.data.loading import inputs
from actionjax.errors import UserError

CROPS = {"center": ((0.5, 0.5),),
         # Action Machine's three: top left, centre, bottom right (section 4.1).
         "three": ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))}


def num_views(read, num_frames: int) -> int:
  """How many views along time show every frame of a clip.

  Args:
    read: (module, config) of every input.
  """
  return max(module.num_stacks(config, num_frames) for module, config in read if config.stacks)


class ClipTransform:
  """record -> one row of a batch. Training draws from Grain's generator, testing from none.

  At test a clip is shown in `views` views along time, each as it is and, with `flips`, in the
  mirror, each of these in the windows of `crops`.

  Attributes:
    count: V, of the views of a row at test; None where it differs from clip to clip.
  """

  def __init__(self, config, *, views: int | Literal["all"] = 1, crops: str = "center",
               flips: bool = False, longest: int | None = None):
    """The transform of a `loading.config.DataConfig`.

    Args:
      views: "all": as many as it takes to show every frame of a clip.
      longest: with "all", frames of the longest clip: shorter ones are filled up to its number of
        views, and `view_valid` float[V] says which count. None: rows of any length.

    Raises:
      UserError: several `crops` would all be the same window, or no input counts stacks of frames.
    """
    self._config = config
    self._arrays = config.arrays
    # What others follow is drawn before them.
    self._inputs = [(inputs.module(read), read) for read in sorted(
        config.read.values(), key=lambda read: not read.frames_others)]
    self._followed = any(read.needs for _, read in self._inputs)
    self._facts = dict(layout=config.layout, modality=config.source.modality)
    self._mirror_classes = config.mirror_classes
    self._views = views
    self._longest = longest
    self._crops = CROPS[crops]
    self._mirrors = (False, True) if flips else (False,)
    if len(self._crops) > 1 and not any(read.room for _, read in self._inputs):
      raise UserError(f"views.crops={crops} needs room for several windows: data.video.crop below "
                      "1, or data.pose2d.test_resize=center; without, use crops=center")
    if views == "all" and not any(read.stacks for _, read in self._inputs):
      raise UserError("views.temporal=all needs data.video with sampling=strided or first_half, "
                      "whose stacks of frames can show all of a clip")
    along_time = views if views != "all" else longest and num_views(self._inputs, longest)
    self.count = along_time and along_time * len(self._mirrors) * len(self._crops)

  def train(self, record: dict, rng: np.random.Generator) -> dict:
    """A randomly sampled, cropped and mirrored row: `video` [T,...], `pose3d` [M,t,...]."""
    # All draws happen whether they are used or not: a switched-off augmentation must not
    # change the others.
    draws = dict(position=rng.random(), at=tuple(rng.random(2)), zoom=rng.uniform(-1, 1),
                 mirror=rng.random() < self._config.flip, turn=rng.uniform(-1, 1),
                 interval=tuple(rng.random(2)), intensity=tuple(rng.uniform(-1, 1, 2)))
    shared = inputs.Shared(**draws, **self._facts, shortest=1 - self._config.time_jitter)
    choices = []
    for module, read in self._inputs:
      choice = module.draw(read, record, shared, rng)
      if read.frames_others:
        choice = self._framing(choice)
        shared = dataclasses.replace(shared, framing=choice)
      choices.append(choice)
    row = self._row(record, shared, choices)
    if shared.mirror and self._mirror_classes is not None:
      row["label"] = np.int32(self._mirror_classes[int(row["label"])])
    return row

  def test(self, record: dict) -> dict:
    """All views of a clip, without chance: model inputs get a leading axis of the views."""
    views = self._views
    if views == "all":
      views = num_views(self._inputs, len(record["frames"]))
    # Along time, then mirrored or not, then by window.
    sides = [[self._along_time(record, mirror, at, views) for at in self._crops]
             for mirror in self._mirrors]
    rows = [self._row(record, *windows[view]) for view in range(views)
            for windows_of_side in sides for windows in windows_of_side]
    stacked = dict(rows[0])
    missing = 0 if self._longest is None else self.count - len(rows)
    for array in self._arrays:
      stacked[array] = np.stack([row[array] for row in rows])
      if missing:
        fill = np.zeros((missing, *stacked[array].shape[1:]), stacked[array].dtype)
        stacked[array] = np.concatenate([stacked[array], fill])
    if self._longest is not None:
      stacked["view_valid"] = np.repeat(np.float32([1, 0]), [len(rows), missing])
    return stacked

  def _along_time(self, record, mirror, at, views):
    """What all inputs agree on, and their choices, for every view along time."""
    shared = [inputs.Shared(**self._facts, position=(view + 0.5) / views, at=at, mirror=mirror,
                            stack=view if self._views == "all" else None)
              for view in range(views)]
    by_input = []
    for module, read in self._inputs:
      choices = module.views(read, record, shared)
      if read.frames_others:
        choices = [self._framing(choice) for choice in choices]
        shared = [dataclasses.replace(view, framing=choice)
                  for view, choice in zip(shared, choices)]
      by_input.append(choices)
    return [(view, [choices[number] for choices in by_input])
            for number, view in enumerate(shared)]

  def _framing(self, framing):
    """A framing as a video can follow it, where there is one."""
    return framing.snapped() if self._followed else framing

  def _row(self, record, shared, choices) -> dict:
    row = {"label": np.int32(record["label"]), "valid": np.float32(1)}
    for (module, read), choice in zip(self._inputs, choices):
      row |= module.apply(read, record, shared, choice)
    return row
