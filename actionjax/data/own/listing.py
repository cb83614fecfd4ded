"""The clips of a folder of videos: from its tree, or from a table."""
import csv
import dataclasses
import os
import pathlib

from actionjax.data.formats import raw_files
from actionjax.data.formats.findings import Findings, shown
from actionjax.data.own import columns
from actionjax.errors import RawDataError

COLUMNS = ("path", "label", "subject", "split", "camera")
EXTENSIONS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mjpeg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts "
    ".vob .webm .wmv .y4m".split())


@dataclasses.dataclass(frozen=True)
class Entry:
  """One line of the table, or one file of the tree: paths as text relative to the folder."""
  clip_id: str
  path: str
  label: str
  subject: str = ""
  split: str = ""
  camera: str = ""


def places(raw_dir: str, table_file: str) -> tuple[pathlib.Path, pathlib.Path | None]:
  """The folder that paths are relative to, and the table if there is one."""
  given = pathlib.Path(raw_dir)
  if given.suffix.lower() == ".csv" and given.is_file() and not table_file:
    return given.parent, given
  if not given.is_dir():
    raise RawDataError(f"{raw_dir} is not a folder; --raw_dir names the folder with the videos, or "
                       "a table (.csv) in it")
  if table_file and not pathlib.Path(table_file).is_file():
    raise RawDataError(f"--table={table_file} is not a file")
  return given, pathlib.Path(table_file) if table_file else None


def table(path: pathlib.Path, findings: Findings) -> list[Entry]:
  """The lines of a table. Raises RawDataError if it is none."""
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      rows = csv.DictReader(file, strict=True)
      header = [name.strip().lower() if name else "" for name in rows.fieldnames or ()]
      unknown = [name for name in header if name not in COLUMNS]
      if unknown or len(set(header)) < len(header) or not {"path", "label"} <= set(header):
        raise RawDataError(f"{path} has the columns {shown(', '.join(header)) or 'none'}; expected "
                           f"path, label, and any of {', '.join(COLUMNS[2:])}")
      rows.fieldnames = header
      entries = []
      for row in rows:
        line = f"{path.name}, line {rows.line_num}"
        if None in row or None in row.values():
          findings.add(line, "columns", f"has not the {len(header)} columns of the first line")
          continue
        values = {key: value.strip() for key, value in row.items()}
        name = values.pop("path")
        if why := raw_files.leads_out(name):
          findings.add(line, "path", f"{shown(name, 80)!r} {why}")
          continue
        name = pathlib.PurePosixPath(name.replace("\\", "/"))
        if not name.name:
          findings.add(line, "path", "names no file")
        elif not values["label"] or not values["label"].isprintable():
          findings.add(line, "label", f"{shown(values['label'], 40)!r} is not the name of a class")
        else:
          entries.append(Entry(name.with_suffix("").as_posix(), str(name), **values))
  except OSError as error:
    raise RawDataError(f"{path} cannot be read ({error.strerror})") from None
  except (UnicodeDecodeError, csv.Error) as error:
    raise RawDataError(f"{path} is not a CSV table in UTF-8 ({shown(error)})") from None
  return entries


def tree(root: pathlib.Path, findings: Findings, flat: bool = False) -> list[Entry]:
  """The videos, or else the skeletons, of a folder a class.

  Args:
    flat: clips may lie in no class' folder, and then have no label.

  Raises:
    RawDataError: the folder cannot be read.
  """
  try:
    tops = sorted(entry.name for entry in os.scandir(root)
                  if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."))
  except OSError as error:
    raise RawDataError(f"{root} cannot be read ({error.strerror})") from None
  found = _walk(root, findings)
  kinds = [[path for path in found if path.suffix.lower() in EXTENSIONS],
           [path for path in found if path.suffix.lower() == ".npz"]]
  videos_here = {path.with_suffix("") for path in kinds[0]}
  for path in kinds[1]:
    if videos_here and path.with_suffix("") not in videos_here:
      findings.add(path.as_posix(), "skeletons", "has no video of the same name beside it")
  taken = {*kinds[0], *kinds[1]}
  passed_over = [path for path in found if path not in taken]
  if passed_over:
    others = f", with {len(passed_over) - 1} others" if len(passed_over) > 1 else ""
    findings.warn(passed_over[0].as_posix(), "path",
                  f"is not a video by its name: passed over{others}")
  entries, clips = [], kinds[0] or kinds[1]
  with_clips = sorted({path.parts[0] for path in clips if len(path.parts) > 1})
  sides = [name for name in with_clips if name.lower() in columns.PART_NAMES]
  split = bool(sides) and len(sides) == len(with_clips)
  if len({columns.PART_NAMES[name.lower()] for name in sides}) > 1 and not split:
    other = next(name for name in with_clips if name not in sides)
    findings.add(other, "split", f"has clips beside {' and '.join(sides)}, which are then no parts "
                                 "of a split but classes; move it elsewhere")
  for path in clips:
    folders = path.parts[:-1]
    if len(folders) < 1 + split and flat:
      entries.append(Entry(path.with_suffix("").as_posix(), path.as_posix(), "",
                           split=folders[0] if split else ""))
      continue
    if len(folders) < 1 + split:
      findings.add(path.as_posix(), "label", "lies in no class's folder")
      continue
    entries.append(Entry(path.with_suffix("").as_posix(), path.as_posix(), folders[split],
                         split=folders[0] if split else ""))
  filled = {entry.path.partition("/")[0] for entry in entries}
  for name in tops:
    if name not in filled:
      findings.warn(name, "label", "is a folder without a clip")
  return entries


def _walk(root: pathlib.Path, findings: Findings) -> list[pathlib.PurePosixPath]:
  """All files below a folder but hidden ones, relative to it, in order."""
  found = []

  def unreadable(error):
    findings.add(error.filename, "path", f"cannot be read ({error.strerror})")

  for folder, folders, files in os.walk(root, onerror=unreadable):
    here = pathlib.Path(folder)
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    for name in folders:
      if (here / name).is_symlink():
        findings.add((here / name).relative_to(root).as_posix(), "path",
                     "is a link to a folder; move the folder itself here")
    found += [pathlib.PurePosixPath((here / name).relative_to(root).as_posix())
              for name in sorted(files) if not name.startswith(".")]
  return found


def files(entries: list[Entry], root: pathlib.Path, findings: Findings
          ) -> list[tuple[Entry, pathlib.Path | None, pathlib.Path | None]]:
  """(entry, video, skeleton) of the clips whose files are in order, sorted by id."""
  found: dict[str, tuple] = {}
  for entry in entries:
    path, problem = root / entry.path, None
    try:
      if not raw_files.is_text(entry.path):
        problem = "is not valid UTF-8; rename it"
      elif not path.is_file():
        problem = (f"is not a file of {root}, which paths are relative to; mend the table"
                   if not path.exists() else "is not a file")
      elif raw_files.escapes(path, root):
        problem = f"is a link out of {root}; put the file itself there"
    except OSError as error:
      problem = f"cannot be read ({error.strerror})"
    if problem is None and not entry.label.isprintable():
      problem = f"is of class {shown(entry.label, 40)!r}, which does not print; rename it"
    if problem is None and entry.clip_id in found:
      other = found[entry.clip_id][0].path
      problem = ("is listed twice; remove one of the lines" if other == entry.path else
                 f"and {shown(other)} claim one clip id; rename one of them")
    if problem:
      findings.add(shown(entry.path), "path", problem)
      continue
    is_skeleton = path.suffix.lower() == ".npz"
    beside = path.with_suffix(".npz")
    skeleton = path if is_skeleton else beside if beside.is_file() else None
    if skeleton is not None and raw_files.escapes(skeleton, root):
      findings.add(entry.clip_id, "skeletons", f"{beside.name} is a link out of {root}")
      continue
    found[entry.clip_id] = (entry, None if is_skeleton else path, skeleton)
  return [found[clip] for clip in sorted(found)]
