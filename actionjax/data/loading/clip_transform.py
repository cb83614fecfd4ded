"""From a record to one row of a batch."""
import dataclasses

import numpy as np

from actionjax.data.loading import graph, pose2d, pose_sampling, sampling, transforms
from actionjax.data.loading.config import CROPS, DataConfig, model_inputs
from actionjax.errors import UnreadableClipError, UserError


@dataclasses.dataclass(frozen=True)
class _Choices:
  """All that chance decides in training, and the number of a view at test.

  Attributes:
    position, places: in time, in [0, 1), of the video and of each 3D pose.
    at, scale, mirror, turn, interval, intensity: of the video's window (x, y), its size, left and
      right, the skeleton's turn, the part of the clip (see `sampling.cut`), and the pixels.
    framing: of 2D skeletons, and of a video that goes with them.
    graph: a normalised clip, and the frames of it.
    picks: the frames of a video, where they are drawn one by one.
    size: (h, w) of the video.
  """
  position: float
  places: np.ndarray | None = None
  at: tuple[float, float] = (0.5, 0.5)
  scale: float = 0.0
  mirror: bool = False
  turn: float = 0.0
  interval: tuple[float, float] = (0.0, 0.0)
  intensity: tuple[float, float] = (0.0, 0.0)
  framing: pose2d.Framing | None = None
  # In quotes: here the field itself is called `graph`.
  graph: "tuple[graph.Sequence, np.ndarray] | None" = None
  picks: np.ndarray | None = None
  size: tuple[int, int] | None = None


class ClipTransform:
  """record -> one row of a batch. Training draws from Grain's generator, testing from none.

  Attributes:
    count: V, of the views of a clip at test: `views` along time, each as it is and, with `flips`,
      in the mirror, each of these in the windows of `crops`.
  """

  def __init__(self, config: DataConfig, *, views: int = 1, crops: str = "centre",
               flips: bool = False):
    """Raises UserError where several `crops` would all be the same window."""
    self.config = config
    self.layout = config.layout
    self.modality = config.source.modality
    self.mirror_classes = config.mirror_classes
    self.views = views
    self.crops = CROPS[crops]
    self.mirrors = (False, True) if flips else (False,)
    room = (config.pose2d.test_resize == "centre" if config.pose2d else
            bool(config.video) and config.video.crop < 1)
    if len(self.crops) > 1 and not room:
      raise UserError(f"views.crops={crops} needs room for several windows: data.video.crop below "
                      "1, or data.pose2d.test_resize=centre; without, use crops=centre")
    self.count = views * len(self.mirrors) * len(self.crops)

  def train(self, record: dict, rng: np.random.Generator) -> dict:
    """A randomly sampled, cropped and mirrored row: `video` [T,...], `pose3d` [M,t,...]."""
    config = self.config
    # All draws happen whether they are used or not: a switched-off augmentation must not
    # change the others.
    draws = dict(position=rng.random(), at=tuple(rng.random(2)), scale=rng.uniform(-1, 1),
                 mirror=rng.random() < config.flip, turn=rng.uniform(-1, 1),
                 interval=tuple(rng.random(2)), intensity=tuple(rng.uniform(-1, 1, 2)))
    choices = _Choices(**draws, places=rng.random(config.pose.num_poses) if config.pose else None,
                       size=config.video and config.video.size)
    if config.pose2d:
      transforms.check_skeletons(record, self.layout, "pose2d", "data.pose2d")
      first, length = self._cut(record["pose2d"].shape[1], choices)
      choices = dataclasses.replace(choices, framing=self._shared(pose2d.training(
          config.pose2d, record, first, length, choices.mirror, rng)))
    if config.graph:
      clip = graph.sequence(config.graph, record, self.layout)
      first, length = self._cut(clip.num_frames, choices)
      choices = dataclasses.replace(choices, graph=(
          clip, first + pose_sampling.uniform_frames(length, config.graph.num_frames, rng)))
    if config.video and config.video.sampling == "uniform":
      first, length = self._cut(self._num_frames(record), choices)
      choices = dataclasses.replace(choices, picks=first + pose_sampling.uniform_frames(
          length, config.video.num_frames, rng))
    row = self._row(record, choices)
    if choices.mirror and self.mirror_classes is not None:
      row["label"] = np.int32(self.mirror_classes[int(row["label"])])
    return row

  def test(self, record: dict) -> dict:
    """All views of a clip, without chance: model inputs get a leading axis [count]."""
    rows = [self._row(record, choices) for choices in self._test_choices(record)]
    stacked = dict(rows[0])
    for key in model_inputs(self.config):
      stacked[key] = np.stack([row[key] for row in rows])
    return stacked

  def _test_choices(self, record):
    """The `_Choices` of every view, in order."""
    config = self.config
    framings = [[None] * self.views for _ in self.crops]
    if config.pose2d:
      transforms.check_skeletons(record, self.layout, "pose2d", "data.pose2d")
      framings = [pose2d.testing(config.pose2d, record, self.views, at) for at in self.crops]
    graphs = [None] * self.views
    if config.graph:
      clip = graph.sequence(config.graph, record, self.layout)
      graphs = [(clip, frames) for frames in graph.test_frames(
          config.graph, clip, self.views)]
    picks, size = [None] * self.views, config.video and (
        config.video.test_size or config.video.size)
    if config.video and config.video.sampling == "uniform":
      picks = pose2d.test_frames(config.pose2d or pose2d.Pose2dConfig(), self._num_frames(record),
                                 config.video.num_frames, self.views)
    for view in range(self.views):
      position = (view + 0.5) / self.views
      places = np.full(config.pose.num_poses, position) if config.pose else None
      for mirror in self.mirrors:
        for at, framing in zip(self.crops, framings):
          framing = framing[view]
          if framing is not None:
            framing = self._shared(pose2d.mirrored(framing) if mirror else framing)
          yield _Choices(position, places, at, mirror=mirror, framing=framing,
                         graph=graphs[view], picks=picks[view], size=size)

  def _shared(self, framing: pose2d.Framing) -> pose2d.Framing:
    """The framing as a video can follow it, where there is one."""
    return framing.snapped() if self.config.video else framing

  def _cut(self, num_frames: int, choices: _Choices) -> tuple[int, int]:
    return sampling.cut(num_frames, shortest=1 - self.config.time_jitter, draws=choices.interval)

  @staticmethod
  def _num_frames(record) -> int:
    if not len(record["frames"]):
      raise UnreadableClipError(f"clip {record['clip_id']} has no frames")
    return len(record["frames"])

  def _row(self, record, choices: _Choices) -> dict:
    config = self.config
    row = {"label": np.int32(record["label"]), "valid": np.float32(1)}
    if config.video:
      row["video"] = self._video(record, choices)
    if config.pose:
      row["pose3d"], row["pose_score"] = self._pose3d(record, choices)
    if config.graph:
      row[config.graph.source], row["pose_score"] = graph.apply(
          config.graph, *choices.graph, choices.mirror, self.layout)
    if config.pose2d:
      row["pose2d"], row["pose_score"] = pose2d.apply(config.pose2d, record, choices.framing,
                                                      self.layout)
    return row

  def _video(self, record, choices: _Choices) -> np.ndarray:
    video, picks = self.config.video, choices.picks
    first, length = self._cut(self._num_frames(record), choices)
    if picks is None:
      picks = first + sampling.pick_video(length, video.num_frames, video.sampling, video.stride,
                                          choices.position)
    frames = transforms.decode_frames(record, picks)
    if choices.framing is not None:
      window = choices.framing.window(choices.size)
    else:
      size = frames[int(picks[0])].shape[:2]
      boxes = record["boxes"] if video.box == "person" else np.zeros((0, 4), np.float32)
      box = transforms.clip_box(boxes, size, margin=video.margin, square=video.square)
      window = transforms.place_window(box, choices.size, crop=video.crop, at=choices.at,
                                       scale=1 + video.scale_jitter * choices.scale,
                                       mirror=choices.mirror)
    pixels = transforms.window_video(frames, picks, window, video.channels)
    if video.intensity_jitter and choices.intensity != (0.0, 0.0):
      gain, offset = choices.intensity
      pixels = transforms.change_intensity(
          pixels, 1 + video.intensity_jitter * gain, 128 * video.intensity_jitter * offset,
          keep_zero=self.modality == "depth")
    return pixels

  def _pose3d(self, record, choices: _Choices) -> tuple[np.ndarray, np.ndarray]:
    config, (pose, score) = self.config.pose, (record["pose3d"], record["pose_score"])
    first, length = self._cut(pose.shape[1], choices)
    picks = first + sampling.chunks(length, config.num_poses, choices.places)
    pose, score = transforms.pick_pose(pose, score, picks, config.persons)
    if config.turn:
      pose = transforms.turn_pose3d(pose, score, np.deg2rad(config.turn) * choices.turn)
    if choices.mirror:
      pose = transforms.mirror_pose(pose, self.layout)
      score = score[..., self.layout.mirror]
    return pose, score
