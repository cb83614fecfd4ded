"""Annotation files of PYSKL and MMAction2: skeletons of a whole dataset in one pickle.

`{"split": {name: [id, ...]}, "annotations": [dict, ...]}`, or the older list of dicts alone, one
file a part. An annotation has `frame_dir` (or `filename`), `label`, `total_frames`, `keypoint`
[M,T,V,2] in pixels of an image of `img_shape` (height, width) with `keypoint_score` [M,T,V], or
`keypoint` [M,T,V,3] in metres. Those of Kinetics-400 keep their key points in a folder of other
files; see `keypoint_files`. Nothing in the pickle is executed (see
`data/formats/plain_pickle.py`).

Lists `P_train`, `P_val`, `P_test` become protocol P; `train1` and `test1` split1; `train` and
`val` split. A protocol with `val` and no `test` tests on it, as these files mean it. Older files
are named like the lists: `ntu60_xsub_train.pkl` is the training side of ntu60_xsub. Files without
lists get the protocols of `own/columns.py`. Ids in NTU RGB+D's form tell subject, camera, setup.
"""
import dataclasses
import pathlib
import re
from typing import Any

import numpy as np

from actionjax.data import own
from actionjax.data.clips import skeleton_arrays
from actionjax.data.clips.boxes import pose_boxes
from actionjax.data.formats import plain_pickle, raw_files
from actionjax.data.formats.findings import Findings, shown
from actionjax.data.own import columns, keypoint_files
from actionjax.errors import RawDataError, UserError

VERSION = "1.2.0"
OPTIONS = {"layout": "", "class_names": ""}
_LIST_NAME = re.compile(r"(.*?)[_-]?(train|validation|valid|val|test)[_-]?(\d*)", re.IGNORECASE)
_NTU = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R\d{3}A\d{3}.*")
NAMES = {"pose3d": "keypoint", "pose2d": "keypoint", "pose": "keypoint", "image_size": "img_shape"}


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One annotation as the file has it; what is in the latter fields is not checked yet."""
  clip_id: str
  label: int
  subject: int
  camera: int
  setup: int
  layout: str
  width: int
  sources: tuple
  keypoint: Any
  score: Any
  image_size: Any
  total_frames: Any
  elsewhere: keypoint_files.Reference | None = None


def survey(raw_dir: str, findings: Findings, *, layout: str, class_names: str) -> own.Survey:
  """Reads the annotation files.

  Args:
    raw_dir: a file, or a folder with `*.pkl`.
    findings: takes what is wrong with ids, labels and lists, clip by clip.
    layout: of the joints; "" to tell by their number. class_names: a text file with a name a
      line; "" to number the classes.

  Raises:
    RawDataError: no annotation file, or one that is no such.
    UserError: the layout or the class names do not fit.
  """
  annotations, lists, ignored = read(raw_dir, findings)
  clips = []
  width = joints = None
  for given in annotations:
    keypoint = given["keypoint"]
    if isinstance(keypoint, np.ndarray) and keypoint.ndim == 4 and keypoint.shape[3] in (2, 3):
      joints, width = keypoint.shape[2:]
      break
  if joints is None:
    joints, width = _joints_elsewhere(annotations, raw_dir), 2
  layout = skeleton_arrays.find_layout(layout, joints, width)
  for given in annotations:
    label = given["label"]
    if isinstance(label, bool) or not isinstance(label, (int, np.integer)) or (
        not 0 <= label < columns.MOST_CLASSES):
      findings.add(given["id"], "label", f"{_brief(label)} is not a class number from 0 to "
                                         f"{columns.MOST_CLASSES - 1}")
      label = 0
    ntu = _NTU.fullmatch(given["id"])
    setup, camera, subject = (int(n) for n in ntu.groups()) if ntu else (0, 0, 0)
    clips.append(RawClip(
        given["id"], int(label), subject, camera, setup, layout, width, given["sources"],
        given["keypoint"], given["score"], given["image_size"], given["total_frames"],
        given["elsewhere"]))
  count = max((clip.label for clip in clips), default=0) + 1
  names = _class_names(class_names, count)
  splits = _splits(lists, {clip.clip_id for clip in clips}, findings)
  listed = bool(splits)
  if not splits:
    splits = columns.protocols([clip.clip_id for clip in clips], [clip.label for clip in clips],
                               [clip.subject for clip in clips], None)
  facts = own.Facts(names, layout, "none", ("pose2d" if width == 2 else "pose3d",), tuple(splits))
  return own.Survey(clips, facts, splits, {"ignored_splits": ignored} if ignored else {},
                    listed)


def _joints_elsewhere(annotations: list[dict], raw_dir: str) -> int:
  """The number of joints in the first file of key points. Raises RawDataError if there is none."""
  error = RawDataError(f"{raw_dir}: no annotation has a keypoint array [M, T, V, 2 or 3]")
  for given in annotations:
    if given["elsewhere"] is not None:
      try:
        return keypoint_files.load(given["elsewhere"]).shape[1]
      except RawDataError as reason:  # of the last one, if no clip's is there
        error = reason
  raise error


def _class_names(file: str, count: int) -> tuple[str, ...]:
  if not file:
    return tuple(str(label) for label in range(max(count, 2)))
  try:
    lines = pathlib.Path(file).read_text("utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--class_names={file} is not a readable text file ({error})") from None
  names = tuple(line.strip() for line in lines if line.strip())
  if len(names) < count or len(set(names)) != len(names):
    raise UserError(f"--class_names={file} has {len(set(names))} different names for the labels "
                    f"0 to {count - 1}; write one name a line")
  return names


def read(raw_dir: str, findings: Findings) -> tuple[list[dict], dict[str, list], list[str]]:
  """Annotations by id, the lists by name, and the names of lists that are no part of a protocol.

  Raises:
    RawDataError: no annotation file, or one that is no such.
  """
  given = pathlib.Path(raw_dir)
  if given.is_dir():
    files = sorted(path for path in given.iterdir() if path.suffix in (".pkl", ".pickle"))
    root = given
  else:
    files, root = [given], given.parent
  if not files or not all(path.is_file() for path in files):
    raise RawDataError(f"{raw_dir} is not an annotation file, nor a folder with *.pkl")
  found, lists, ignored = {}, {}, []
  elsewhere = keypoint_files.listing(root)
  for path in files:
    if given.is_dir() and raw_files.escapes(path, root):
      findings.add(path.name, "path", f"is a link out of {root}; put the file itself there")
      continue
    content = plain_pickle.load(path)
    old = isinstance(content, list)
    annotations = content if old else content.get("annotations") if (
        isinstance(content, dict)) else None
    split = {path.stem: None} if old else content.get("split") if isinstance(content, dict) else {}
    if not isinstance(annotations, list) or not isinstance(split, (dict, type(None))):
      raise RawDataError(f"{path} is not an annotation file: expected a dict with the lists "
                         "annotations and split, or a list of annotations")
    here = _entries(path, annotations, findings, raw_files.source(path, root, whole=True),
                    elsewhere, root)
    for entry in here:
      other = found.setdefault(entry["id"], entry)
      if other is not entry and not _same(entry, other):
        findings.add(entry["id"], "frame_dir", "names two different annotations "
                     f"({other['sources'][0][0]} and {entry['sources'][0][0]})")
    for name, ids in (split or {}).items():
      if not isinstance(name, str) or not _LIST_NAME.fullmatch(name):
        if not old:
          ignored.append(_brief(name))
          findings.warn(path.name, "split", f"{_brief(name)} names neither a train, val nor test "
                                            "list: passed over")
        continue
      lists.setdefault(name, []).extend(
          [entry["id"] for entry in here] if old else _ids(path, name, ids, findings))
  return list(found.values()), lists, ignored


def _entries(path, annotations: list, findings: Findings, source: tuple,
             elsewhere: dict[str, pathlib.Path], root: pathlib.Path) -> list[dict]:
  """The annotations that have an id, as dicts of `id`, `sources` and the values as given.

  Args:
    elsewhere: files of key points by name. root: that these lie below.
  """
  entries, digests = [], {}
  for number, annotation in enumerate(annotations):
    where = f"{path.name}, annotation {number}"
    if not isinstance(annotation, dict):
      findings.add(where, "annotation", f"is a {type(annotation).__name__}, not a dict")
      continue
    identity = annotation.get("frame_dir", annotation.get("filename"))
    if not isinstance(identity, str) or not raw_files.is_text(identity):
      findings.add(where, "frame_dir", f"{_brief(identity)} is not text")
      continue
    if why := raw_files.leads_out(identity):
      findings.add(where, "frame_dir", f"{shown(identity, 80)!r} {why}")
      continue
    if "label" not in annotation:
      findings.add(identity, "label", "is not there")
      continue
    sources, reference = (source,), keypoint_files.reference(annotation, identity, elsewhere)
    if reference is not None and reference.path is not None:
      if reference.path not in digests:
        digests[reference.path] = raw_files.source(reference.path, root)
      sources += (digests[reference.path],)
    entries.append({
        "id": identity, "sources": sources, "elsewhere": reference, "label": annotation["label"],
        "keypoint": annotation.get("keypoint"), "score": annotation.get("keypoint_score"),
        "image_size": annotation.get("img_shape"),
        "total_frames": annotation.get("total_frames")})
  return entries


def _same(a: dict, b: dict) -> bool:
  """Whether two files describe a clip alike."""
  of_files = [entry["elsewhere"] and (entry["elsewhere"].path, repr(entry["elsewhere"].frame_inds))
              for entry in (a, b)]
  if of_files[0] != of_files[1]:
    return False
  for key in ("label", "total_frames", "keypoint", "score"):
    if type(a[key]) is not type(b[key]):
      return False
    if isinstance(a[key], np.ndarray):
      if a[key].shape != b[key].shape or a[key].tobytes() != b[key].tobytes():
        return False
    elif not isinstance(a[key], (int, np.integer, type(None))) or a[key] != b[key]:
      return False
  return True


def _ids(path, name: str, ids, findings: Findings) -> list[str]:
  if isinstance(ids, np.ndarray) and ids.dtype.kind == "U":
    ids = ids.ravel().tolist()
  if not isinstance(ids, (list, tuple, set)) or not all(isinstance(one, str) for one in ids):
    findings.add(path.name, f"split {shown(name, 40)}", "must be a list of ids")
    return []
  return list(ids)


def _splits(lists: dict[str, list], known: set, findings: Findings) -> dict[str, dict[str, set]]:
  """Protocols out of the lists; see the module's docstring."""
  splits: dict[str, dict[str, set]] = {}
  for name, ids in lists.items():
    base, part, number = _LIST_NAME.fullmatch(name).groups()
    part = columns.PART_NAMES[part.lower()]
    absent = [one for one in ids if one not in known]
    if absent:
      findings.warn(shown(absent[0], 80), f"split {shown(name, 40)}",
                    f"lists {len(absent)} ids without an annotation, this one first")
    protocol = shown((base or "split") + number, 60)
    splits.setdefault(protocol, {}).setdefault(part, set()).update(set(ids) & known)
  for name, parts in splits.items():
    if "validation" in parts and "test" not in parts:
      parts["test"] = parts.pop("validation")
    if not any(parts.values()):
      findings.add(f"split {name}", "ids", "none of them is the frame_dir of an annotation")
    for part, use in (("train", "train on"), ("test", "test on")):
      if not parts.get(part) and any(parts.values()):
        findings.warn(f"split {name}", part, f"there is no clip to {use}")
    seen: set = set()
    for part, ids in parts.items():
      for clip in sorted(ids & seen):
        findings.add(clip, f"split {name}", f"is in {part} and in another part")
      seen |= ids
  return splits


def skeletons_of(raw: RawClip, findings: Findings) -> skeleton_arrays.Skeletons | None:
  """An annotation's arrays; None, with every reason among the findings, if they cannot be used."""
  before = len(findings.errors)
  arrays = {}
  if raw.elsewhere is not None:
    keypoint, score = keypoint_files.read(raw.elsewhere, findings) or (None, None)
    # Its total_frames counts those without anybody too.
    raw = dataclasses.replace(raw, keypoint=keypoint, score=score, total_frames=None)
    if keypoint is None:
      return None
  for field, value in (("keypoint", raw.keypoint), ("keypoint_score", raw.score)):
    if isinstance(value, np.ndarray):
      arrays[field] = value
    elif value is not None or field == "keypoint":
      findings.add(raw.clip_id, field, f"is {_brief(value)}, not a NumPy array")
  size = None
  if raw.image_size is not None:
    size = _size(raw.image_size)
    if size is None:
      findings.add(raw.clip_id, "img_shape",
                   f"must be (height, width), got {_brief(raw.image_size)}")
  if "keypoint" not in arrays:
    return None
  is_2d = raw.width == 2
  given = skeleton_arrays.Skeletons(
      **{"pose2d" if is_2d else "pose3d": arrays["keypoint"]}, image_size=size,
      score=arrays.get("keypoint_score"))
  names = {"pose3d": "keypoint", "pose2d": "keypoint", "pose_score": "keypoint_score"}
  joints = skeleton_arrays.layout_joints(raw.layout)
  for field, message in skeleton_arrays.problems(given, joints):
    findings.add(raw.clip_id, names[field], message)
  frames = raw.total_frames
  if len(findings.errors) == before and frames is not None and (
      not isinstance(frames, (int, np.integer)) or frames != given.num_frames):
    findings.add(raw.clip_id, "total_frames", f"is {_brief(frames)}, but keypoint has "
                                              f"{given.num_frames} frames")
  return given if len(findings.errors) == before else None


def examine(raw: RawClip, findings: Findings, **options) -> own.Examined | None:
  """All that is wrong with one annotation, and its statistics."""
  del options
  given = skeletons_of(raw, findings)
  if given is None:
    return None
  poses = skeleton_arrays.clean(given)
  skeleton_arrays.warn(raw.clip_id, poses, findings, NAMES)
  return own.Examined(given.num_frames, len(poses.score), poses.missing, poses.joints, poses.notes)


def encode(raw: RawClip, **options) -> dict:
  """One annotation as a record without frames; 2D poses in pixels of the original image.

  A clip without any person is kept, with no pose, and counted in the dataset's info.

  Raises:
    RawDataError: what `examine` finds first.
  """
  del options
  findings = Findings()
  given = skeletons_of(raw, findings)
  findings.stop()
  poses = skeleton_arrays.clean(given)
  record = {"clip_id": raw.clip_id, "label": raw.label, "subject": raw.subject,
            "camera": raw.camera, "setup": raw.setup, "num_frames": given.num_frames,
            "pose3d": poses.pose3d, "pose2d": poses.pose2d, "pose_score": poses.score,
            "notes": poses.notes}
  if poses.pose2d is not None:
    record["boxes"] = pose_boxes(poses.pose2d, poses.score)
    record["image_size"] = poses.image_size
  return record


def _size(value) -> tuple[int, int] | None:
  """(height, width) of two positive numbers, else None."""
  if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.shape == (2,):
    value = value.tolist()
  if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(
      isinstance(n, (int, float, np.integer, np.floating)) and 0 < n < 1e6 for n in value):
    return None
  return int(value[0]), int(value[1])


def _brief(value) -> str:
  """A value from a file for a message; containers, which may be endless, by their type."""
  if isinstance(value, int) and abs(value) > 10**18:
    return "a number of more than 18 digits"  # Python refuses to write out endless ones
  if value is None or isinstance(value, (int, float, np.integer, np.floating)):
    return shown(value, 40)
  if isinstance(value, str):
    return repr(shown(value, 40))
  if isinstance(value, tuple) and len(value) < 4 and all(
      isinstance(item, (int, float)) for item in value):
    return f"({', '.join(_brief(item) for item in value)})"
  return f"a {type(value).__name__}"
