"""What tests of builders have in common: one clip encoded, or a folder prepared."""
from actionjax.data import catalogue
from actionjax.data.clips import record
from actionjax.data.preparing import preparation


def encode(builder, folder, variant: str | None = None, clip: int = 0) -> dict:
  """A clip's record, without the detour over the disk; notes are left out."""
  dataset = builder.DATASET
  options = dataset.options(variant)
  made = dict(dataset.encode(dataset.find(str(folder), **options)[clip], **options))
  made.pop("notes", None)
  return record.complete(made)


def prepare(dataset: str, raw, data, variant: str | None = None, **options):
  """Prepares and opens; returns the dataset and the lines that the user sees."""
  lines = []
  preparation.prepare(dataset, str(raw), str(data), variant=variant, workers=1,
                      report=lines.append, **options)
  return catalogue.open_dataset(data, dataset, variant), lines
