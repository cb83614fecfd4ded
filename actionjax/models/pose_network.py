"""A pose backbone with a classifier of its own: how pose networks are trained before they guide.

Das' thesis trains the pose network of P-I3D and Separable STA for recognition first (Algorithms 1
and 2, step 3) and attaches it to the video afterwards. `init_from` with
`rename=(("pose_backbone", "vpn/pose_backbone"),)` hands the result to VPN.
"""
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from actionjax.models import checked, pose_backbones
from actionjax.ops import skeleton_frames


class Model(checked.Module):
  """Skeletons -> pose backbone -> dropout -> dense.

  Attributes:
    num_classes: N.
    layout: joint layout of `pose3d`.
    pose: the backbone's `name`, "gcn" or "lstm", and its fields.
    normalise: of skeletons: "translate" or "align"; see `skeleton_frames`.
    dropout: before the classifier.
  """
  num_classes: int
  layout: str
  pose: Mapping[str, Any]
  normalise: checked.BodyFrame = "translate"
  dropout: float = 0.5

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return ("pose3d", "pose_score")

  @property
  def parts(self) -> dict[str, type]:
    """Fields that are sections -> the module that each configures."""
    return {"pose": pose_backbones.find(self.pose["name"])}

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `pose3d` float[B,M,T,J,3], `pose_score` float[B,M,T,J].

    Returns:
      logits float32[B,N] and out: `features` float[B,D], h* of the pose backbone.
    """
    body, present = skeleton_frames.body_centred(
        batch["pose3d"], batch["pose_score"], self.layout, self.normalise)
    features = pose_backbones.create(self.pose, self.layout, name="pose_backbone")(
        body, present, train=train)
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    logits = nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)
    return logits, {"features": features}
