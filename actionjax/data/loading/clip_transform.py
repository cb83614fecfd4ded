"""From a record to one row of a batch."""
import dataclasses

import numpy as np

from actionjax.data.loading import inputs
from actionjax.errors import UserError

CROPS = {"center": ((0.5, 0.5),),
         # Action Machine's three: top left, centre, bottom right (section 4.1).
         "three": ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))}


class ClipTransform:
  """record -> one row of a batch. Training draws from Grain's generator, testing from none.

  Attributes:
    count: V, of the views of a clip at test: `views` along time, each as it is and, with `flips`,
      in the mirror, each of these in the windows of `crops`.
  """

  def __init__(self, config, *, views: int = 1, crops: str = "center",
               flips: bool = False):
    """The transform of a `loading.config.DataConfig`.

    Raises:
      UserError: several `crops` would all be the same window.
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
    self._crops = CROPS[crops]
    self._mirrors = (False, True) if flips else (False,)
    if len(self._crops) > 1 and not any(read.room for _, read in self._inputs):
      raise UserError(f"views.crops={crops} needs room for several windows: data.video.crop below "
                      "1, or data.pose2d.test_resize=center; without, use crops=center")
    self.count = views * len(self._mirrors) * len(self._crops)

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
    """All views of a clip, without chance: model inputs get a leading axis [count]."""
    # Along time, then mirrored or not, then by window.
    sides = [[self._along_time(record, mirror, at) for at in self._crops]
             for mirror in self._mirrors]
    rows = [self._row(record, *windows[view]) for view in range(self._views)
            for windows_of_side in sides for windows in windows_of_side]
    stacked = dict(rows[0])
    for array in self._arrays:
      stacked[array] = np.stack([row[array] for row in rows])
    return stacked

  def _along_time(self, record, mirror, at):
    """What all inputs agree on, and their choices, for every view along time."""
    shared = [inputs.Shared(**self._facts, position=(view + 0.5) / self._views, at=at,
                            mirror=mirror) for view in range(self._views)]
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
