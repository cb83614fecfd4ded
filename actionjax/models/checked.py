"""Modules whose fields are checked when they are built, not when they are traced."""
from typing import Literal

import flax.linen as nn

from actionjax import annotations
from actionjax.errors import UserError

# Of computation; parameters and statistics are float32.
Dtype = Literal["float32", "bfloat16", "float16"]
# Of videos; see `ops.images.scale`.
Scaling = Literal["signed", "imagenet"]
# Of skeletons that are still in metres; see `ops.skeleton_frames`.
BodyFrame = Literal["translate", "align"]


class Module(nn.Module):
  """A linen module that raises UserError where a field is not what its annotation says."""

  def __post_init__(self):
    try:
      annotations.check_fields(self, skip=("parent", "name"))  # linen's own
    except ValueError as error:
      raise UserError(f"{type(self).__module__.rpartition('.')[2]}.{error}") from None
    super().__post_init__()
