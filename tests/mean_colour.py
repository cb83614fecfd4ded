"""An input of a user, in one file: the mean colour of some frames; and a network that reads it."""
import dataclasses
from typing import ClassVar

import flax.linen as nn
import numpy as np

from actionjax.data.loading import inputs, sampling, transforms


@dataclasses.dataclass(frozen=True)
class Config(inputs.Input):
  """`mean_colour` float32[3] in [0, 1]. num_frames: how many frames are looked at."""
  num_frames: int = 2

  arrays: ClassVar = ("mean_colour",)
  reads: ClassVar = ("frames",)


def spec(config, layout, test):
  """See `inputs`."""
  return {"mean_colour": ((3,), np.float32)}


def draw(config, record, shared, rng):
  """Frames at the moment that all inputs of the clip share."""
  first, length = sampling.cut(len(record["frames"]), shortest=shared.shortest,
                               draws=shared.interval)
  return first + sampling.segments(length, config.num_frames, shared.position)


def views(config, record, shared):
  """As `draw`, for every view."""
  return [sampling.segments(len(record["frames"]), config.num_frames, view.position)
          for view in shared]


def apply(config, record, shared, choice):
  """Decodes and averages."""
  frames = transforms.decode_frames(record, choice)
  mean = np.mean([frames[int(pick)].mean((0, 1)) for pick in choice], 0) / 255
  return {"mean_colour": mean.astype(np.float32)}


class Model(nn.Module):
  """Logits of the colour alone."""
  num_classes: int
  inputs: ClassVar = ("mean_colour",)

  @nn.compact
  def __call__(self, batch, *, train: bool):
    return nn.Dense(self.num_classes, name="head")(batch["mean_colour"]), {}
