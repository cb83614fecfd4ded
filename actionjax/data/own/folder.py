"""Videos in a folder per class, or listed in a CSV table; skeletons beside them if there are any.

`RAW_DIR/CLASS/.../CLIP.mp4`, or `RAW_DIR/{train,val,test}/CLASS/.../CLIP.mp4`, or a UTF-8 table
with the columns `path` and `label`, and any of `subject`, `split` and `camera`. Paths are relative
to the folder. A clip's id is its path without the extension.

Skeletons of `CLIP.mp4` are arrays in `CLIP.npz` beside it:

  pose3d      number[M,T,J,3]  metres in camera coordinates (x right, y up, z away)
  pose2d      number[M,T,J,2]  pixels of the video's frames, x right and y down
  pose_score  number[M,T,J]    optional; 0 marks a missing joint, as do coordinates 0 and NaN
  layout      text             optional; a name of `actionjax.skeletons`
  image_size  number[2]        optional; height and width that pose2d is measured in, where they
                               are not the video's
  fps         number           optional; of skeletons without a video

of M persons, T frames, J joints; one pose or both. If T is not the video's number of frames, time
is stretched evenly. Files `CLIP.npz` alone, without any video, are a dataset of skeletons. Or one
PYSKL annotation file has the skeletons of all clips, by the videos' names (NTU RGB+D's without
their _rgb); its lists become protocols. Beside it the videos need no folder a class: where all lie
in one folder, the file's labels count, and videos that it does not name are left out.
"""
import dataclasses
import pathlib

import numpy as np

from actionjax.data import own
from actionjax.data.clips import boxes, skeleton_arrays, videos
from actionjax.data.formats import plain_npz, raw_files
from actionjax.data.formats.findings import Findings, shown
from actionjax.data.own import annotations, columns, listing
from actionjax.errors import RawDataError, UserError

VERSION = "1.3.0"
OPTIONS = {"layout": "", "size": 256, "max_frames": 1500, "crop": "persons", "table": "",
           "skeletons": "", "class_names": ""}
ARRAYS = ("pose3d", "pose2d", "pose_score", "layout", "image_size", "fps")


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files, absolute; `video` or `skeleton` may be None.

  Attributes:
    annotation: of an annotation file, in place of `skeleton`.
    layout: of the dataset's skeletons, "" without. poses: those that its skeletons must have.
  """
  clip_id: str
  label: int
  subject: int
  camera: int
  video: str | None
  skeleton: str | None
  annotation: annotations.RawClip | None
  layout: str
  poses: tuple[str, ...]
  sources: tuple


def survey(raw_dir: str, findings: Findings, *, table: str, skeletons: str, layout: str, crop: str,
           class_names: str, **_) -> own.Survey:
  """Lists the clips of a folder; see the module's docstring.

  Args:
    raw_dir: the folder, or the table in it.
    findings: takes what is wrong, clip by clip.
    table: of the clips; "" for a folder a class. skeletons: an annotation file, or "".
    layout: of the joints; "" to take the files' word, or to tell by their number.
    crop: see `encode`. class_names: a text file with a name a line, for the labels of an annotation
      file; "" to number them.

  Raises:
    RawDataError: no such folder or table, or a table without the columns.
    UserError: the layout or the class names do not fit, or there is no such crop.
  """
  if crop not in own.CROPS:
    raise UserError(f"--crop must be one of {', '.join(own.CROPS)}, got {shown(crop, 40)}")
  root, table = listing.places(raw_dir, table)
  entries = listing.table(table, findings) if table else listing.tree(
      root, findings, flat=bool(skeletons))
  files = listing.files(entries, root, findings)
  if not files and not findings.errors:
    raise RawDataError(f"{root} holds no clips: expected a folder a class with videos in it, or a "
                       "table of them (--table=FILE.csv)")
  by_id, listed, names = {}, {}, None
  # One folder for all, and no table: the folder tells no classes, but the annotations may.
  labelled = bool(skeletons) and not table and len({entry.label for entry, *_ in files}) < 2
  if class_names and not labelled:
    raise UserError("--class_names says nothing without --skeletons=FILE.pkl and all videos in one "
                    "folder: classes are named by folders, or by the table")
  if skeletons:
    by_id, listed, named = _annotations(root, skeletons, files, layout, class_names, labelled,
                                          findings)
    if labelled:
      names = named
      files = [(dataclasses.replace(entry, label=names[by_id[entry.clip_id].label]), *paths)
               for entry, *paths in files if entry.clip_id in by_id]
    layout = next((raw.layout for raw in by_id.values()), "")
    poses = tuple("pose2d" if raw.width == 2 else "pose3d" for raw in list(by_id.values())[:1])
  else:
    layout, poses = _layout([skeleton for _, _, skeleton in files if skeleton], layout)
  entries = [entry for entry, *_ in files]
  ids = [entry.clip_id for entry in entries]
  for field in ("subject", "camera", "split"):
    columns.check_complete(ids, [getattr(entry, field) for entry in entries], field, findings)
  names = names or columns.class_names(entry.label for entry in entries)
  label = {name: number for number, name in enumerate(names)}
  subjects, subject_names = columns.numbers([entry.subject for entry in entries])
  cameras, camera_names = columns.numbers([entry.camera for entry in entries])
  split = columns.parts(ids, [entry.split for entry in entries], findings)
  clips = []
  for (entry, video, skeleton), subject, camera in zip(files, subjects, cameras):
    annotation = by_id.get(entry.clip_id)
    try:
      sources = tuple(raw_files.source(path, root) for path in (video, skeleton) if path)
    except OSError as error:
      findings.add(entry.clip_id, "path", f"cannot be read ({error.strerror})")
      continue
    sources += ((entry.label, entry.subject, entry.camera),)
    if annotation is not None:
      sources += annotation.sources
    clips.append(RawClip(
        entry.clip_id, label[entry.label], subject, camera, video and str(video),
        skeleton and str(skeleton), annotation, layout, poses, sources))
  if len(names) < 2 and not findings.errors:
    findings.add(str(root), "label", f"there is one class only ({shown(names[0])})")
  if len(names) > columns.MOST_CLASSES:
    findings.add(str(root), "label", f"there are {len(names)} classes, more than "
                                     f"{columns.MOST_CLASSES}")
  protocols = columns.protocols(ids, [label[entry.label] for entry in entries], subjects, split)
  if listed:
    protocols.pop("fraction", None)
    protocols = listed | protocols  # the folder's own word counts
  modality = "colour" if any(video for _, video, _ in files) else "none"
  info = {key: value for key, value in (("subjects", subject_names), ("cameras", camera_names))
          if value}
  facts = own.Facts(names, layout, modality, poses, tuple(protocols),
                    crop=crop if modality == "colour" and "pose2d" in poses else "none")
  return own.Survey(clips, facts, protocols, info)


# ---- skeletons -----------------------------------------------------------------------

def _layout(files: list[pathlib.Path], given: str) -> tuple[str, tuple[str, ...]]:
  """The layout and the poses of the first readable skeleton file; those of others must agree."""
  for path in files:
    try:
      arrays = plain_npz.read(path, ARRAYS)
    except RawDataError:
      continue  # named when the clip is read
    poses = tuple(name for name in ("pose3d", "pose2d") if name in arrays)
    if poses and arrays[poses[0]].ndim == 4:
      named = _text(arrays.get("layout"))
      _, _, joints, width = arrays[poses[0]].shape
      try:
        return skeleton_arrays.find_layout(given or named, joints, width), poses
      except UserError as error:
        raise UserError(f"{path}: {error}") from None
  return "", ()


def _text(array) -> str:
  known = array is not None and array.shape == () and array.dtype.kind == "U"
  return str(array[()]) if known else ""


def _annotations(root, skeletons: str, files, layout: str, class_names: str, labelled: bool,
                 findings: Findings) -> tuple[
                     dict[str, annotations.RawClip], dict[str, dict[str, set]], tuple[str, ...]]:
  """The annotations of the clips by clip id: by the whole id, else by the video's name.

  Also the protocols that the file lists, of these clips, and the names of its classes.

  Args:
    labelled: whether the file has the say of labels, too.
  """
  path = pathlib.Path(skeletons)
  path = path if path.is_file() else root / skeletons
  inner = Findings()
  surveyed = annotations.survey(str(path), inner, layout=layout, class_names=class_names)
  # Of labels the folder mostly has the say.
  inner.stop()
  there = {clip.clip_id: clip for clip in surveyed.clips}
  found, used = {}, {}
  for entry, video, _ in files:
    stem = (video or pathlib.Path(entry.path)).stem
    for name in (entry.clip_id, stem, stem.removesuffix("_rgb")):
      if name in there:
        other = used.setdefault(name, entry.clip_id)
        if other != entry.clip_id:
          findings.add(entry.clip_id, "skeletons", f"and {shown(other)} would both get those of "
                       f"frame_dir {shown(name)}; give each its own, named by the path")
        found[entry.clip_id] = there[name]
        break
  if not found and not findings.errors:
    such = f", such as {shown(files[0][0].clip_id)}" if files else ""
    raise RawDataError(f"{path}: no frame_dir is the name of a video{such}")
  lacking = [entry.clip_id for entry, *_ in files if entry.clip_id not in found]
  if lacking:
    others = f", as {len(lacking) - 1} other clips" if len(lacking) > 1 else ""
    findings.warn(lacking[0], "skeletons", f"has no annotation{others}"
                                           f"{': left out' if labelled else ''}")
  if not surveyed.listed:
    return found, {}, surveyed.facts.class_names
  return found, {protocol: {part: {clip for clip, raw in found.items() if raw.clip_id in ids}
                            for part, ids in parts.items()}
                 for protocol, parts in surveyed.splits.items()}, surveyed.facts.class_names


def _poses(raw: RawClip, findings: Findings) -> skeleton_arrays.Skeletons | None:
  """A clip's skeletons; None if it has none, or with the reasons among the findings."""
  if raw.annotation is not None:
    return annotations.skeletons_of(raw.annotation, findings)
  if raw.skeleton is None:
    return None
  try:
    arrays = plain_npz.read(raw.skeleton, ARRAYS)
  except RawDataError as error:
    findings.add(raw.clip_id, "skeletons", str(error))
    return None
  before = len(findings.errors)
  poses = tuple(name for name in ("pose3d", "pose2d") if name in arrays)
  if raw.poses and poses != raw.poses:
    findings.add(raw.clip_id, "skeletons", f"has {' and '.join(poses) or 'no pose'}, other clips "
                                           f"have {' and '.join(raw.poses)}")
  named = _text(arrays.get("layout"))
  if named and named != raw.layout:
    findings.add(raw.clip_id, "layout", f"is {shown(named, 60)!r}, but the dataset's is "
                                        f"{raw.layout!r}")
  size = arrays.get("image_size")
  if size is not None and (size.shape != (2,) or size.dtype.kind not in "iuf"
                           or not (np.isfinite(size) & (size > 0) & (size < 1e6)).all()):
    findings.add(raw.clip_id, "image_size", "must be (height, width)")
    size = None
  given = skeleton_arrays.Skeletons(
      arrays.get("pose3d"), arrays.get("pose2d"), arrays.get("pose_score"),
      None if size is None else (int(size[0]), int(size[1])))
  joints = skeleton_arrays.layout_joints(raw.layout) if raw.layout else None
  for field, message in skeleton_arrays.problems(given, joints):
    findings.add(raw.clip_id, field, message)
  return given if len(findings.errors) == before else None


def _fps(raw: RawClip) -> float:
  """Of skeletons without a video."""
  value = plain_npz.read(raw.skeleton, ARRAYS).get("fps")
  known = value is not None and value.shape == () and value.dtype.kind in "iuf"
  return float(value) if known and 0 < float(value) < 1e4 else 0.0


# ---- one clip ------------------------------------------------------------------------

def examine(raw: RawClip, findings: Findings, **options) -> own.Examined | None:
  """Decodes a clip whole for its faults and statistics."""
  del options
  before = len(findings.errors)
  given = _poses(raw, findings)
  facts = None
  if raw.video:
    try:
      facts = videos.scan(raw.video)
    except RawDataError as error:
      findings.add(raw.clip_id, "video", str(error))
    else:
      if len(facts.sizes) > 1:
        findings.warn(raw.clip_id, "video", f"has frames of {len(facts.sizes)} sizes; all are "
                                            f"brought to the first, {facts.width}x{facts.height}")
  if len(findings.errors) > before:
    return None
  if given is None:
    return own.Examined(facts.count)
  poses = skeleton_arrays.clean(given)
  skeleton_arrays.warn(raw.clip_id, poses, findings, skeleton_arrays.NAMES
                       if raw.annotation is None else annotations.NAMES)
  if facts and facts.count != given.num_frames:
    findings.warn(raw.clip_id, "skeletons", f"have {given.num_frames} frames, the video "
                  f"{facts.count}; time is stretched evenly")
  return own.Examined(facts.count if facts else given.num_frames, len(poses.score), poses.missing,
                      poses.joints, poses.notes)


def encode(raw: RawClip, *, size: int, max_frames: int, crop: str, **_) -> dict:
  """One clip as a record.

  With 2D poses, frames are cut around the persons' box over the whole clip and reduced until the
  shorter side of the box itself has `size` pixels; otherwise they are whole, the shorter side
  reduced to `size`.

  Args:
    raw: from `survey`.
    size: pixels.
    crop: "persons", their box grown by 30 %; "square", with what squares around them reach, which
      RGBPose-SlowFast looks at; "none" to keep frames whole.
    max_frames: of a longer video every second, fourth, ... frame is kept.

  Raises:
    RawDataError: an unreadable video or skeleton; names the file.
  """
  findings = Findings()
  given = _poses(raw, findings)
  findings.stop()
  poses = None if given is None else skeleton_arrays.clean(given)
  notes = [] if poses is None else list(poses.notes)
  record = {"clip_id": raw.clip_id, "label": raw.label, "subject": raw.subject,
            "camera": raw.camera}
  if raw.video is None:
    window = None
    record.update(num_frames=given.num_frames, fps=_fps(raw))
  else:
    place = _Place(poses, size, crop)
    video = videos.read(raw.video, place, max_frames)
    poses, window = place.poses, video.window
    record.update(num_frames=len(video.frames), fps=video.fps, frames=video.frames,
                  frame_to_original=window.to_original, image_size=window.size)
    if poses is None and raw.poses:
      notes.append("no_skeleton")
    if len(video.frames) < video.facts.count:
      notes.append("thinned")
    if len(video.facts.sizes) > 1:
      notes.append("resized_frames")
    if poses is not None:
      if poses.score.shape[1] != video.facts.count:
        notes.append("stretched_skeleton")
      poses = skeleton_arrays.at_frames(poses, video.positions, video.facts.count)
  if poses is None and raw.poses:
    record.update(_nobody(raw, record["num_frames"]))
  elif poses is not None:
    record.update(pose3d=poses.pose3d, pose2d=poses.pose2d, pose_score=poses.score)
    if poses.pose2d is not None:
      around = boxes.pose_boxes(poses.pose2d, poses.score)
      if window is not None:
        around = window.to_stored(around.reshape(-1, 2, 2)).reshape(-1, 4)
        record["pose2d"] = np.where(poses.score[..., None] > 0, window.to_stored(poses.pose2d), 0)
      else:
        record["image_size"] = poses.image_size
      record["boxes"] = around
  return record | {"notes": tuple(notes)}


def _nobody(raw: RawClip, frames: int) -> dict[str, np.ndarray]:
  """The poses of no person, of the shapes that the dataset's others have."""
  joints = skeleton_arrays.layout_joints(raw.layout)
  return {"pose_score": np.zeros((0, frames, joints))} | {
      name: np.zeros((0, frames, joints, 3 if name == "pose3d" else 2)) for name in raw.poses}


class _Place:
  """Chooses what of a video to store, once its size is known; scales 2D poses to that size."""

  def __init__(self, poses: skeleton_arrays.Clean | None, size: int, crop: str):
    self.poses, self._size, self._crop = poses, size, crop

  def __call__(self, width: int, height: int) -> boxes.StoredWindow:
    self.poses = _scaled(self.poses, width, height)
    if self._crop != "none" and self.poses is not None and self.poses.pose2d is not None:
      around = boxes.pose_boxes(self.poses.pose2d, self.poses.score)
      if np.isfinite(around).any():
        return boxes.clip_window(around, width, height, self._size, square=self._crop == "square")
    return boxes.whole_window(width, height, self._size)


def _scaled(poses: skeleton_arrays.Clean | None, width: int,
            height: int) -> skeleton_arrays.Clean | None:
  """2D poses in pixels of a video that may be another rendition of what they were found in."""
  if poses is None or poses.pose2d is None or poses.image_size is None:
    return poses
  rows, across = poses.image_size
  if (across, rows) == (height, width):  # given as (width, height)
    rows, across = across, rows
  if (rows, across) == (height, width):
    return poses
  factor = np.array([width / across, height / rows], np.float32)
  # Pixel centres are at whole numbers: as `cv2.resize` does it.
  moved = (poses.pose2d + np.float32(0.5)) * factor - np.float32(0.5)
  return dataclasses.replace(poses, pose2d=np.where(poses.score[..., None] > 0, moved, 0),
                             image_size=(height, width))
