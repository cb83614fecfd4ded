"""Raw dataset -> prepared dataset, published ones and users' own alike.

Each clip is encoded by a worker process and staged as one file (`staging`), put in place
whole. When all are there, the staged records are copied into a TFDS dataset beside them, read
back to make the index, and the finished folder is renamed to its place. So whatever is
at that place is finished, a killed run loses at most the clips in work, and the result
depends on nothing but the raw files. In `<data_dir>/<dataset>/<variant>/`:

  1.0.0/                the finished dataset (see `data/clips/record.py`)
  .lock                 held while a run works here
  .staging-1.0.0-KEY/   encoded clips of an unfinished run, for the raw files of that KEY, and
                        what was said of clips that could not be read (.lost) or are worth a
                        note (.note)
  .building-1.0.0/      a dataset being put together
"""
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import pathlib
import shutil
import textwrap
import time

import numpy as np

from actionjax.data import catalogue, own
from actionjax.data.clips import record
from actionjax.data.clips.dataset import INDEX_FILE, INFO_FILE, ClipDataset, Index
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats.findings import shown
from actionjax.data.preparing import staging
from actionjax.errors import UserError

UNREADABLE = ("fail", "skip")
MAX_UNREADABLE = 0.05


def fingerprint(clips) -> str:
  """sha256 over what the raw clips are made of.

  Names and sizes of their files; of a user's own also a hash of their content, which for large
  videos is that of the two ends (see `raw_files.digest`), and what a table says of the clips.

  Args:
    clips: what a dataset's `find` returns.
  """
  digest = hashlib.sha256()
  for clip in sorted(clips, key=lambda clip: clip.clip_id):
    source = getattr(clip, "sources", None) or repr(clip)
    if isinstance(source, str) and " object at 0x" in source:
      raise TypeError(f"{type(clip).__name__} needs `sources` or a repr of its content")
    digest.update(repr((clip.clip_id, source)).encode())
  return digest.hexdigest()


def _key(version: str, options: dict, raw: str) -> str:
  """Names what a record depends on; staged clips of another key are of no use."""
  text = json.dumps([record.FORMAT, version, options, raw], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class _Raw:
  """A dataset's raw files, listed.

  Attributes:
    source: the dataset. variant: of it.
    clips: what its `find` gives, in the order of their ids. remarks: on them, for the user.
    survey: of a user's own dataset; None of a published one.
  """
  source: Dataset
  variant: str
  clips: list
  remarks: tuple[str, ...]
  survey: own.Survey | None = None

  @property
  def options(self) -> dict:
    """The keyword arguments of the dataset's `encode`."""
    return self.source.options(self.variant)

  @functools.cached_property
  def fingerprint(self) -> str:
    """See `fingerprint`."""
    return fingerprint(self.clips)

  @property
  def key(self) -> str:
    """See `_key`."""
    return _key(self.source.version, self.options, self.fingerprint)


def _list(name: str, variant: str, raw_dir: str | None, options: dict) -> _Raw:
  """Lists the raw clips. Raises RawDataError."""
  if own.is_own(name):
    survey = own.survey(name, raw_dir, options)
    source, clips, remarks = own.of_survey(name, survey, options), survey.clips, survey.remarks
  else:
    survey, source = None, catalogue.load(name)
    clips = source.find(raw_dir, **options)
    remarks = clips.remarks
  return _Raw(source, variant, sorted(clips, key=lambda clip: clip.clip_id), remarks, survey)


# ---- the finished dataset --------------------------------------------------------------

def _build(raw: _Raw, staged, root, facts) -> pathlib.Path:
  """A finished dataset's folder below `root`: records, index and, last, the info file."""
  source = raw.source
  needed = sum(path.stat().st_size for path in staged)
  # Better said before minutes of copying than after.
  if shutil.disk_usage(root).free < 1.05 * needed:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
  from actionjax.data.preparing import tfds_dataset
  folder, shards = tfds_dataset.write(
      source, catalogue.module(source.name), raw.variant, root,
      [path.stat().st_size - 4 for path in staged],
      lambda i: staging.read(staged[i]))
  frames, persons, index = tfds_dataset.read_back(folder, shards)
  most = max(map(int, persons), default=0)
  if raw.survey is None and most > source.persons:
    raise ValueError(f"{source.name}: a clip has {most} persons, its Dataset says {source.persons}")
  index.save(folder / INDEX_FILE)
  info = {
      "format": record.FORMAT, "dataset": source.name, "variant": raw.variant,
      "version": source.version, "options": raw.options,
      "class_names": list(source.class_names), "layout": source.layout,
      "modality": source.modality if frames else "none", "fps": source.fps,
      "persons": persons, **facts, "fingerprint": raw.fingerprint, "key": raw.key,
      "num_clips": len(index), "num_frames": int(index.num_frames.sum()), "shards": shards}
  if raw.survey is not None:
    np.savez(folder / own.SPLITS_FILE,
             codes=own.codes_of(raw.survey.splits, index.clip_id.tolist()))
    info |= {"poses": source.poses, "protocols": list(source.protocols),
             "crop": raw.survey.facts.crop, **raw.survey.info}
  (folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n")
  return folder


# ---- the whole ---------------------------------------------------------------------

@contextlib.contextmanager
def _lock(folder: pathlib.Path):
  """Creates and holds a folder for one run; the lock ends with the process."""
  try:
    import fcntl
  except ImportError:  # Windows
    fcntl = None
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "a")
  except OSError as error:
    if error.errno == errno.ENOSPC:
      raise
    raise UserError(f"cannot write to {folder} ({error.strerror}); "
                    "choose another --data_dir") from None
  with file:
    if fcntl is not None:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise UserError(f"another run is preparing {folder}; wait for it to end") from None
      except OSError:
        pass  # a file system without locks
    yield


def _leftovers(home: pathlib.Path, version: str) -> list[pathlib.Path]:
  """What killed runs left of this version, TFDS's own kind included."""
  patterns = (f".staging-{version}-*", f".building-{version}", f".old-{version}",
              f"incomplete.*_{version}", f"{version}.incomplete*")
  return [path for pattern in patterns for path in home.glob(pattern)]


def _sweep(home: pathlib.Path, version: str, keep: pathlib.Path | None = None) -> None:
  """Removes leftovers but for `keep`."""
  for path in _leftovers(home, version):
    if path != keep:
      shutil.rmtree(path, ignore_errors=True)


def _publish(built: pathlib.Path, place: pathlib.Path) -> None:
  """Moves a finished folder to its place, replacing an earlier one."""
  old = place.with_name(f".old-{place.name}")
  if place.exists():
    os.replace(place, old)
  os.replace(built, place)


def _counts(source: Dataset, index: Index) -> dict:
  protocols = {}
  for name, protocol in source.protocols.items():
    protocols[name] = {part: int(mask.sum()) for part, mask in protocol(index).items()}
  classes = np.bincount(index.label, minlength=len(source.class_names))
  return {"protocols": protocols, "classes": dict(zip(source.class_names, classes.tolist()))}


def _report_counts(summary: dict, report) -> None:
  report(f"{summary['clips']} clips, {summary['frames']} frames in {summary['path']}")
  for name, parts in summary["protocols"].items():
    report(f"{name}: " + ", ".join(f"{count} {part}" for part, count in parts.items()))
  classes = ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
  report(textwrap.fill(f"classes: {classes}", 100, subsequent_indent="  ",
                       break_on_hyphens=False))


def _title(dataset: str, variant: str) -> str:
  return dataset if own.is_own(dataset) else f"{dataset}/{variant}"


def _say(line: str) -> None:
  print(line, flush=True)  # at once, into a pipe or a log too


def prepare(dataset: str, raw_dir: str | None = None, data_dir: str | None = None,
            variant: str | None = None, workers: int | None = None,
            report=_say, options: dict | None = None, unreadable: str = "fail",
            max_unreadable: float = MAX_UNREADABLE, beam: str | None = None) -> dict:
  """Prepares one variant of a dataset, or finds that there is nothing to do.

  Interrupted at any point, even killed, it goes on from the clips already encoded. The
  files are the same bit by bit however often it was interrupted and with any number of
  workers. Raw files of other names or sizes than before make it prepare anew; the old
  files stay until the new are finished.

  Args:
    dataset: a module of `actionjax.data.builders`, or a user's own as `KIND:NAME` (`data/own`).
    raw_dir: folder of the raw dataset; not needed where it is generated, nor to look at
      a finished one.
    data_dir: root of prepared datasets, None for `dataset.default_data_dir()`.
    variant: one of the dataset's; None is its first.
    workers: processes that encode; None for all cores, 1 for none but this one.
    beam: encode in an Apache Beam pipeline with these options; None without. See `beam.py`.
    report: called with each line for the user.
    options: of a user's own dataset; see its kind's OPTIONS.
    unreadable: "fail" stops at a clip that cannot be read; "skip" leaves it out, and the
      dataset's info, and every evaluation on it, say how many were left out.
    max_unreadable: share of the clips that may be left out.

  Returns:
    {"path": the dataset's folder, "done": False if it was finished before, "clips",
    "frames": counts, "protocols": {protocol: {part: clips}}, "classes": {class: clips},
    "skipped": clips left out, "seconds": float}.

  Raises:
    UserError: an unknown dataset or variant, no raw_dir, or another run in the folder.
    RawDataError: what is wrong with a raw file.
    OSError: the disk is full (ENOSPC), or a folder is not writable.
  """
  start = time.monotonic()
  if unreadable not in UNREADABLE:
    raise UserError(f"--unreadable must be one of {', '.join(UNREADABLE)}, got {unreadable}")
  if not 0 <= max_unreadable < 1:
    raise UserError(f"--max_unreadable must lie in [0, 1), got {max_unreadable:g}")
  if own.is_own(dataset):
    options, needs_raw = own.complete(dataset, options), True
  else:
    source = catalogue.load(dataset)
    options, needs_raw = source.options(variant), source.needs_raw
  if beam is not None and raw_dir is not None:
    raw_dir = os.path.abspath(raw_dir)  # Beam's workers may be started in another folder
  place = catalogue.dataset_path(data_dir, dataset, variant)
  variant = place.parent.name
  ready = _finished(place)
  raw = None
  if raw_dir is not None or not needs_raw:
    raw = _list(dataset, variant, raw_dir, options)
    for line in raw.remarks:
      report(line)
  elif ready is None:
    command = own.command(dataset) if own.is_own(dataset) else (
        f"python -m actionjax.prepare --dataset={dataset} --raw_dir=FOLDER")
    raise UserError(f"{dataset} is not prepared in {place}; give the folder of its raw files: "
                    f"{command}")
  # With clips left out it is not what "fail" asks for.
  lacking = ready is not None and unreadable == "fail" and bool(ready.get("skipped"))
  done = raw is not None and (ready is None or ready["key"] != raw.key or lacking)
  if done:
    if ready is not None:
      made = "without unreadable clips" if lacking else "from other raw files or options"
      report(f"{place} was made {made}: preparing it anew")
    with _lock(place.parent):
      policy = staging.Policy(unreadable, max_unreadable)
      encoders = staging.Encoders(workers, beam)
      _prepare(raw, place, encoders, report, policy)
  else:
    report(f"{_title(dataset, variant)} is prepared already: nothing to do")
    if raw is not None and _leftovers(place.parent, place.name):
      with contextlib.suppress(UserError), _lock(place.parent):
        _sweep(place.parent, place.name)
  finished = ClipDataset(place)
  index, skipped = finished.index, finished.info.get("skipped", ())
  summary = {"path": str(place), "done": done, "clips": len(index),
             "frames": int(index.num_frames.sum()), **_counts(catalogue.of(finished), index),
             "skipped": len(skipped), "seconds": time.monotonic() - start}
  _report_counts(summary, report)
  for what, ids in finished.info.get("notes", {}).items():
    report(f"{what}: {len(ids)} clips, such as {shown(ids[0])}")
  for clip, why in skipped[:10]:
    report(f"left out: {shown(clip)}: {shown(why, 1000)}")
  if len(skipped) > 10:
    report(f"left out: {len(skipped)} clips in all, listed in {place / INFO_FILE}")
  return summary


def _finished(place: pathlib.Path) -> dict | None:
  """The info of a whole finished dataset at a place, else None."""
  try:
    info = ClipDataset(place).info
    return info if "key" in info else None
  except (OSError, ValueError, KeyError):
    return None


def _prepare(raw: _Raw, place: pathlib.Path, encoders, report, policy) -> None:
  """Encodes, builds and publishes, under the lock."""
  source, clips = raw.source, raw.clips
  if len({clip.clip_id for clip in clips}) != len(clips) or not clips:
    raise ValueError(f"{source.name}: find() must give one or more clips of different clip_id")
  home = place.parent
  stage = home / f".staging-{source.version}-{raw.key}"
  _sweep(home, source.version, keep=stage)
  stage.mkdir(exist_ok=True)
  report(f"preparing {_title(source.name, raw.variant)}: {len(clips)} clips, {encoders}")
  encode = functools.partial(source.encode, **raw.options)
  staging.encode_all(encode, clips, stage, encoders, report, policy)
  skipped = staging.notes(stage, "lost")
  notes: dict[str, list[str]] = {}
  for clip, words in staging.notes(stage, "note"):
    for word in words:
      notes.setdefault(word, []).append(clip)
  facts = {"unreadable": policy.unreadable, "max_unreadable": policy.most, "skipped": skipped,
           "notes": notes}
  root = home / f".building-{source.version}"
  root.mkdir()
  lost = {clip for clip, _ in skipped}
  staged = [staging.path(stage, clip.clip_id) for clip in clips if clip.clip_id not in lost]
  try:
    _publish(_build(raw, staged, root, facts), place)
  except BaseException:
    shutil.rmtree(root, ignore_errors=True)  # makes room, where the disk is full
    raise
  _sweep(home, source.version)
