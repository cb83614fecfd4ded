"""From a record to a network's input: boxes, windows, resizing, mirroring.

Frames and poses of a clip go through one `Window`, so that they stay aligned. Random choices
are made by the caller, who holds the generator; everything here is deterministic.
"""
import dataclasses
from typing import Literal

import cv2
import numpy as np

from actionjax.data.formats import images
from actionjax.errors import UserError
from actionjax.skeletons import Layout


@dataclasses.dataclass(frozen=True)
class Window:
  """A rectangle of the stored frame that becomes the network's input.

  Attributes:
    x0, y0, x1, y1: corners in pixels of the stored frame, integers; may leave the frame, where
      it is filled with 0.
    size: (height, width) after resizing.
    mirror: whether the result is flipped left to right.
  """
  x0: int
  y0: int
  x1: int
  y1: int
  size: tuple[int, int]
  mirror: bool = False

  def apply(self, frame: np.ndarray) -> np.ndarray:
    """The window of a frame [H,W] or [H,W,C], resized, as [h,w] or [h,w,C]."""
    height, width = frame.shape[:2]
    if self.x1 <= 0 or self.y1 <= 0 or self.x0 >= width or self.y0 >= height:
      return np.zeros((*self.size, *frame.shape[2:]), frame.dtype)
    crop = frame[max(0, self.y0):max(0, self.y1), max(0, self.x0):max(0, self.x1)]
    top, left = max(0, -self.y0), max(0, -self.x0)
    bottom, right = max(0, self.y1 - height), max(0, self.x1 - width)
    if top or left or bottom or right:
      crop = cv2.copyMakeBorder(crop, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
    h, w = self.size
    # Area averaging is the one interpolation that does not alias when an image shrinks.
    shrinks = crop.shape[0] > h and crop.shape[1] > w
    result = cv2.resize(crop, (w, h), interpolation=cv2.INTER_AREA if shrinks
                        else cv2.INTER_LINEAR)
    return result[:, ::-1] if self.mirror else result

  def apply_points(self, points: np.ndarray) -> np.ndarray:
    """Pixel coordinates [...,2] (x, y) of the stored frame, in the window's pixels.

    A pixel's centre has integer coordinates, before and after, as OpenCV resizes.
    """
    h, w = self.size
    scale = np.array([w / (self.x1 - self.x0), h / (self.y1 - self.y0)], np.float32)
    moved = (points - [self.x0, self.y0] + 0.5) * scale - 0.5
    if self.mirror:
      moved[..., 0] = w - 1 - moved[..., 0]
    return moved.astype(np.float32)


def clip_box(boxes: np.ndarray, frame_size: tuple[int, int], *, margin: float,
             square: bool = False) -> np.ndarray:
  """One person box for a whole clip.

  Args:
    boxes: float[T,4] (x0,y0,x1,y1) a frame, NaN where nobody was found.
    frame_size: (height, width) of the stored frame.
    margin: share of the box's width and height added on each side.
    square: extend the shorter side to the longer (it may then leave the frame); otherwise the
      box is clipped to the frame.

  Returns:
    float[4]; the whole frame where no box is finite.
  """
  height, width = frame_size
  finite = boxes[np.isfinite(boxes).all(-1)] if boxes.size else boxes.reshape(0, 4)
  if not len(finite):
    return np.array([0, 0, width, height], np.float32)
  x0, y0 = finite[:, :2].min(0)
  x1, y1 = finite[:, 2:].max(0)
  grow_x, grow_y = margin * (x1 - x0), margin * (y1 - y0)
  x0, x1, y0, y1 = x0 - grow_x, x1 + grow_x, y0 - grow_y, y1 + grow_y
  if square:
    half = max(x1 - x0, y1 - y0) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return np.array([cx - half, cy - half, cx + half, cy + half], np.float32)
  box = np.array([max(0, x0), max(0, y0), min(width, x1), min(height, y1)], np.float32)
  if box[2] - box[0] < 2 or box[3] - box[1] < 2:
    return np.array([0, 0, width, height], np.float32)
  return box


def place_window(box: np.ndarray, size: tuple[int, int], *, crop: float, at: tuple[float, float],
                 scale: float = 1.0, mirror: bool = False) -> Window:
  """A window inside a box.

  Args:
    box: float[4] in stored pixels.
    size: (height, width) of the network's input.
    crop: the window's sides relative to the box's, e.g. 224/256.
    at: place (x, y) in [0,1]^2 of the window in the room that `crop` leaves: (0, 0) is top
      left, (0.5, 0.5) the centre.
    scale: factor on the box's sides about its centre, before cropping.
  """
  cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
  width, height = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
  x0 = cx - width / 2 + at[0] * (1 - crop) * width
  y0 = cy - height / 2 + at[1] * (1 - crop) * height
  left, top = int(round(x0)), int(round(y0))
  return Window(left, top, left + max(1, int(round(crop * width))),
                top + max(1, int(round(crop * height))), size, mirror)


def decode_frames(record: dict, picks: np.ndarray) -> dict[int, np.ndarray]:
  """Decodes the picked frames, and only those, each once.

  Args:
    record: see `clips.record`; colour or depth frames, encoded or as arrays.
    picks: int[T] frame indices, repeats allowed.

  Returns:
    {frame index: uint8[H,W,3] of colour or uint8[H,W] of depth mapped to grey}.

  Raises:
    UnreadableClipError: a frame that does not decode.
  """
  frames = {}
  for pick in np.unique(picks):
    frame = record["frames"][pick]
    if isinstance(frame, bytes):
      frame = images.decode_frame(frame, f"frame {pick} of clip {record['clip_id']}")
    if frame.dtype == np.uint16:
      frame = images.depth_to_grey(frame, record["depth_range"])
    frames[int(pick)] = frame
  return frames


def window_video(frames: dict[int, np.ndarray], picks: np.ndarray, window: Window,
                 channels: int) -> np.ndarray:
  """Decoded frames through a window, in the order of the picks, uint8[T,h,w,channels].

  Args:
    channels: 1 or 3; grey is repeated, colour averaged where needed.
  """
  seen = {}
  for pick, frame in frames.items():
    if frame.ndim == 3 and channels == 1:
      frame = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    frame = window.apply(frame)
    seen[pick] = frame if frame.ndim == 3 else np.repeat(frame[..., None], channels, -1)
  return np.stack([seen[int(pick)] for pick in picks])


def change_intensity(video: np.ndarray, gain: float, offset: float, *,
                     keep_zero: bool) -> np.ndarray:
  """video * gain + offset, uint8[...], cut to [0, 255].

  Args:
    keep_zero: pixels of 0 (nothing, in a depth map) stay 0.
  """
  table = np.clip(np.round(np.arange(256) * gain + offset), 0, 255).astype(np.uint8)
  if keep_zero:
    table = np.maximum(table, 1)
    table[0] = 0
  return table[video]


def check_skeletons(record: dict, layout: Layout, source: str, section: str) -> None:
  """Raises UserError where a record lacks skeletons that a section reads, or has another layout's.

  Args:
    source: "pose3d" or "pose2d". section: e.g. "data.pose2d", for the message.
  """
  frames, joints = record[source].shape[1:3]
  if not frames:
    raise UserError(f"clip {record['clip_id']} has no {source[4:].upper()} skeletons, which "
                    f"{section} reads; prepare the dataset with its skeletons")
  if joints != layout.num_joints:
    raise UserError(f"clip {record['clip_id']} has skeletons of {joints} joints; {layout.name} has "
                    f"{layout.num_joints}")


def main_persons(pose: np.ndarray, score: np.ndarray, persons: int) -> np.ndarray:
  """Whom to keep where a network reads fewer persons than there are, int[N] in rising order.

  Those who move most: the sum over joints and frames of the squared distance to the joint's mean
  place, each counted by its score, so that who is seen rarely or doubtfully comes behind. Of
  persons who move alike, those of the larger scores.

  Args:
    pose: float[M,T,J,C]; may be no numbers where a score is 0. score: float[M,T,J].
  """
  if len(pose) <= persons:
    return np.arange(len(pose))
  there = (score > 0) & np.isfinite(pose).all(-1)
  weight = np.where(there, score, 0).astype(np.float64)[..., None]
  places = np.where(there[..., None], pose, 0).astype(np.float64)
  mean = (weight * places).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1e-9)
  motion = (weight * (places - mean) ** 2).sum((1, 2, 3))
  # Rounding is no motion.
  motion[motion < 1e-9 * (weight * places**2).sum((1, 2, 3))] = 0
  return np.sort(np.lexsort((-weight.sum((1, 2, 3)), -motion))[:persons])


def pick_pose(pose: np.ndarray, score: np.ndarray, picks: np.ndarray,
              persons: int) -> tuple[np.ndarray, np.ndarray]:
  """The picked poses of the `main_persons`, padded with absent ones.

  Args:
    pose: float[M,T,J,C].
    score: float[M,T,J].
    picks: int[t].

  Returns:
    float32[persons,t,J,C] and float32[persons,t,J]; zeros for absent persons.
  """
  m = min(persons, pose.shape[0])
  chosen = np.zeros((persons, len(picks), *pose.shape[2:]), np.float32)
  scores = np.zeros(chosen.shape[:-1], np.float32)
  kept = main_persons(pose, score, persons)
  chosen[:m], scores[:m] = pose[kept][:, picks], score[kept][:, picks]
  return chosen, scores


def mirror_pose(pose: np.ndarray, layout: Layout) -> np.ndarray:
  """[...,J,D] seen in a mirror at x = 0: x negated, left and right joints swapped."""
  return pose[..., layout.mirror, :] * np.array([-1] + [1] * (pose.shape[-1] - 1), pose.dtype)


def turn_pose3d(pose: np.ndarray, score: np.ndarray, angle: float,
                axis: Literal["x", "y"] = "y") -> np.ndarray:
  """[...,J,3] turned about an axis through its mean present joint.

  Args:
    score: [...,J]; missing joints (0) stay at the origin.
    angle: radians.
    axis: "y", the vertical, or "x", across the image.
  """
  present = score > 0
  if not present.any():
    return pose
  centre = pose[present].mean(0)
  cos, sin = np.cos(angle), np.sin(angle)
  turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]] if axis == "y" else
                  [[1, 0, 0], [0, cos, sin], [0, -sin, cos]], np.float32)
  turned = (pose - centre) @ turn + centre
  return np.where(present[..., None], turned, pose).astype(np.float32)
