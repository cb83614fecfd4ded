"""Prepares a raw dataset for training, or your own videos and skeletons:

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.prepare --dataset=folder --name=mine --raw_dir=FOLDER

Run again after an interruption, it goes on where it stopped. --validate reads a dataset of one's
own without preparing it and lists every fault; --export writes a prepared dataset's skeletons in
the interchange format (`actionjax/data/own/interchange_files.py`)."""
from absl import flags

from actionjax import cli, skeletons
from actionjax.data import catalogue
from actionjax.data.preparing import export
from actionjax.errors import UserError

_DATASET = flags.DEFINE_string(
    "dataset", None, "A dataset, such as utd_mhad; or a kind of your own: folder, annotations, "
    "interchange.")
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of the raw dataset's files; of your own "
                               "also a table (.csv) or an annotation file (.pkl).")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Root of prepared datasets (default: $ACTIONJAX_DATA, else "
    "~/.cache/actionjax).")
_VARIANT = flags.DEFINE_string("variant", None, "A variant of the dataset (default: its first).")
_WORKERS = flags.DEFINE_integer("workers", None, "Encoding processes (default: one per core).",
                                lower_bound=1)
_BEAM = flags.DEFINE_bool("beam", False, "Encode in an Apache Beam pipeline; see "
                          "actionjax/data/preparing/beam.py.")
_BEAM_OPTIONS = flags.DEFINE_string("beam_options", "", "Of the pipeline, such as "
                                    "'--runner=FlinkRunner --flink_master=HOST:8081' (default: "
                                    "processes of this machine).")
_UNREADABLE = flags.DEFINE_enum(
    "unreadable", "fail", ["fail", "skip"], "What to do at a clip that cannot be read: stop, or "
    "leave it out and say so in the dataset's info and in every result.")
_MAX_UNREADABLE = flags.DEFINE_float(
    "max_unreadable", 0.05, "Share of clips that --unreadable=skip may leave out.")
_NAME = flags.DEFINE_string("name", None, "Name for your own dataset; configs call it KIND:NAME.")
_TABLE = flags.DEFINE_string("table", None, "folder: CSV table with the columns path, label, and "
                             "any of subject, split, camera.")
_SKELETONS = flags.DEFINE_string("skeletons", None, "folder: a PYSKL annotation file with the "
                                 "videos' skeletons.")
_SIZE = flags.DEFINE_integer("size", None, "folder: pixels of the stored frames' shorter side, or "
                             "of the persons' where they are cut to them (default: 256).",
                             lower_bound=16)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", None, "folder: a longer video keeps every second, "
                                   "fourth, ... frame (default: 1500).", lower_bound=2)
_CROP = flags.DEFINE_enum("crop", None, ["persons", "square", "none"], "folder: what to keep of "
                          "frames around 2D skeletons: the persons' box (default), what squares "
                          "around them reach, or all.")
_LAYOUT = flags.DEFINE_string("layout", None, "folder, annotations: the joint layout, where the "
                              "number of joints does not tell; or a .json file that describes it.")
_CLASS_NAMES = flags.DEFINE_string("class_names", None, "annotations, and folder with their "
                                   "labels: text file with a class name a line.")
_VALIDATE = flags.DEFINE_bool("validate", False, "Read your own dataset, list every fault, print "
                              "statistics, write a picture; prepare nothing.")
_PICTURE = flags.DEFINE_string("picture", "dataset.png", "Where --validate draws the statistics.")
_EXPORT = flags.DEFINE_string("export", None, "Write the prepared dataset's skeletons to this "
                              "folder in the interchange format.")


def main() -> None:
  """Prepares the dataset that the flags name, or validates or exports it."""
  cli.quiet_libraries()
  from actionjax.data import builders, own
  from actionjax.data.preparing import preparation
  dataset = _DATASET.value
  if not dataset:
    raise UserError(f"--dataset is missing; known: {', '.join(builders.names())}, and your own: "
                    f"{', '.join(own.KINDS)}")
  kind, _, name = dataset.partition(":")
  options = _options(kind)
  if _VALIDATE.value:
    _validate(dataset, options)
    return
  if own.is_own(dataset):
    name = name or _NAME.value
    if not name:
      raise UserError(f"--name is missing: configs will call the dataset {kind}:NAME")
    dataset = f"{kind}:{name}"
  elif _NAME.value:
    raise UserError(f"--name is for datasets of your own ({', '.join(own.KINDS)}), not {dataset}")
  if _EXPORT.value:
    _export(dataset)
    return
  if _BEAM_OPTIONS.value and not _BEAM.value:
    raise UserError("--beam_options says nothing without --beam")
  summary = preparation.prepare(
      dataset, _RAW_DIR.value, _DATA_DIR.value, _VARIANT.value, _WORKERS.value, options=options,
      unreadable=_UNREADABLE.value, max_unreadable=_MAX_UNREADABLE.value,
      beam=_BEAM_OPTIONS.value if _BEAM.value else None)
  if own.is_own(dataset):
    print(f"in a config: --config.data.dataset={dataset} "
          f"--config.data.protocol={next(iter(summary['protocols']))}")


def _options(kind: str) -> dict:
  """The flags that are given, of those that only some kinds of datasets have."""
  from actionjax.data import own
  known = own.module(kind).OPTIONS if kind in own.KINDS else {}
  given = {flag.name: flag.value for flag in (
      _TABLE, _SKELETONS, _SIZE, _MAX_FRAMES, _CROP, _LAYOUT, _CLASS_NAMES)
      if flag.value is not None}
  for flag in given:
    if flag not in known:
      raise UserError(f"--{flag} says nothing to --dataset={kind}")
  if given.get("layout", "").endswith(".json"):
    given["layout"] = skeletons.find(given["layout"])
  return given


def _validate(kind: str, options: dict) -> None:
  """Lists the findings and the statistics. Raises UserError where there are errors."""
  if not _RAW_DIR.value:
    raise UserError("--raw_dir is missing: it names what to validate")
  from tqdm import tqdm

  from actionjax.data.own import validation
  with tqdm(desc="reading", unit="clip", leave=False, disable=None) as bar:
    found = validation.validate(kind.partition(":")[0], _RAW_DIR.value, options, _WORKERS.value,
                                bar.update)
  for finding in found.findings:
    print(f"{'warning' if finding.warning else 'ERROR'}: {finding}")
  if found.survey is not None and found.survey.clips:
    from actionjax.report import dataset
    print(dataset.table(found))
    try:
      dataset.picture(found).savefig(_PICTURE.value, dpi=110)
    except (OSError, ValueError) as error:
      raise UserError(f"cannot write --picture={_PICTURE.value} ({error})") from None
    print(f"picture: {_PICTURE.value}")
  if found.errors:
    clips = len({finding.clip for finding in found.errors})
    raise UserError(f"{len(found.errors)} errors in {clips} clips or files; they are listed above")
  print("no errors")


def _export(dataset: str) -> None:
  """Writes the interchange format."""
  opened = catalogue.open_dataset(_DATA_DIR.value, dataset, _VARIANT.value)
  summary = export.export(opened, _EXPORT.value)
  print(f"{summary['clips']} clips with {' and '.join(summary['poses'])} in {_EXPORT.value}")


if __name__ == "__main__":
  cli.run(main)
