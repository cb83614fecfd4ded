"""Records as a dataset of TensorFlow Datasets (TFDS), written without TensorFlow."""
import collections
import contextlib
import errno
import functools
import io
import os
import pathlib
import types

import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core.utils import shard_utils

from actionjax.data.clips import dataset, record
from actionjax.data.clips.definition import Dataset


@functools.cache
def features() -> tfds.features.FeaturesDict:
  """The features of one record, `record.features()`, made once."""
  return record.features()


class _ClipsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """What the TFDS builders of all datasets share.

  Attributes:
    sizes: bytes of each record. read: function (i) -> record i, a serialized Example.
    compression: of ArrayRecord, such as "zstd:19"; "" for its default.
  """
  VERSION = tfds.core.Version("1.0.0")
  sizes: list[int]
  compression: str = ""

  def _info(self):
    return self.dataset_info_from_configs(
        features=features(), disable_shuffling=True, description=self.__doc__.strip(),
        homepage=None)

  def _split_generators(self, dl_manager):
    return {dataset.SPLIT: self._generate_examples()}

  def _generate_examples(self):
    for i in range(len(self.sizes)):
      yield i, record.parse(self.read(i))

  def _make_download_manager(self, *unused_args, **unused_kwargs):
    return types.SimpleNamespace(downloaded_size=0)  # nothing is ever downloaded

  def _download_and_prepare(self, dl_manager, download_config=None):
    # Instead of TFDS's own, which sorts the records in memory and, beyond 1 GB, in files
    # that it needs TensorFlow for. These are in order and serialized: copying is enough.
    count = shard_utils.ShardConfig().get_number_shards(sum(self.sizes), len(self.sizes))
    template = self._get_filename_template(split_name=dataset.SPLIT)
    first, lengths = 0, []
    for shard, end in enumerate(shard_utils.get_shard_boundaries(len(self.sizes), count)):
      path = template.sharded_filepath(shard_index=shard, num_shards=count)
      _write_shard(os.fspath(path), map(self.read, range(first, end)), self.compression)
      lengths.append(end - first)
      first = end
    split = tfds.core.SplitInfo(name=dataset.SPLIT, shard_lengths=lengths,
                                num_bytes=sum(self.sizes), filename_template=template)
    self.info.set_splits(tfds.core.splits.SplitDict([split]))


def builder_class(source: Dataset,
                  module: types.ModuleType) -> type[tfds.core.GeneratorBasedBuilder]:
  """The TFDS builder of a dataset; its variants are TFDS builder configs.

  Args:
    module: that the dataset comes from, whose name and docstring it bears.
  """
  kind = source.name.partition(":")[0]  # of a user's dataset, whose own name is a variant's
  configs = [tfds.core.BuilderConfig(name=variant) for variant in source.variants]
  # Not registered with TFDS: the same dataset may be asked for twice in a process.
  return type(_ClipsBuilder)(
      "".join(part.title() for part in kind.split("_")), (_ClipsBuilder,),
      {"name": kind, "VERSION": tfds.core.Version(source.version), "BUILDER_CONFIGS": configs,
       "__module__": module.__name__, "__doc__": module.__doc__},
      skip_registration=True)


def _write_shard(path: str, serialized, compression: str) -> None:
  try:
    writer = array_record_module.ArrayRecordWriter(
        path, ",".join(filter(None, ("group_size:1", compression))))
    for data in serialized:
      writer.write(data)
    writer.close()
  except RuntimeError as error:  # all that the C++ library ever raises
    if os.strerror(errno.ENOSPC) not in str(error):
      raise
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from None


def write(source: Dataset, module: types.ModuleType, variant: str, root, sizes: list[int], read,
          compression: str = "") -> tuple[pathlib.Path, list]:
  """Writes the split `clips` of a dataset, in the given order.

  Args:
    source, variant: the dataset, and which of its variants the records are of.
    module: see `builder_class`.
    root: the files go to `<root>/<name>/<variant>/<version>`.
    sizes: bytes of each record.
    read: function (i) -> record i, a serialized Example.
    compression: of ArrayRecord, such as "zstd:19"; "" for its default.

  Returns:
    the folder, and for each shard {"file": name, "clips": count, "bytes": int}.

  Raises:
    OSError: the disk is full.
  """
  builder = builder_class(source, module)(data_dir=root, config=variant)
  builder.sizes, builder.read, builder.compression = sizes, read, compression
  with contextlib.redirect_stdout(io.StringIO()):  # it talks of downloads
    builder.download_and_prepare(file_format="array_record")
  split = builder.info.splits[dataset.SPLIT]
  shards = [{"file": pathlib.Path(file).name, "clips": length, "bytes": os.stat(file).st_size}
            for file, length in zip(split.filepaths, split.shard_lengths)]
  return pathlib.Path(builder.data_dir), shards


def read_back(folder: pathlib.Path,
              shards: list[dict]) -> tuple[bool, dict[str, int], dataset.Index]:
  """Reads every record as it was written.

  Returns:
    whether any record has frames, the number of clips by persons of their skeletons (as text, for
    JSON; clips of no skeletons count as 0), and the index.

  Raises:
    OSError: a shard of another length than it should have.
  """
  frames, persons = False, collections.Counter()

  def rows():
    nonlocal frames
    for shard in shards:
      reader = array_record_module.ArrayRecordReader(
          str(folder / shard["file"]), options="readahead_buffer_size:0")
      if reader.num_records() != shard["clips"]:
        raise OSError(f"{shard['file']} holds {reader.num_records()} records instead of "
                      f"{shard['clips']}")
      for i in range(shard["clips"]):
        # One at a time: a record of an hour of video is a hundred megabytes.
        clip = record.parse(reader.read([i])[0])
        frames = frames or bool(clip["frames"])
        persons[len(clip["pose_score"])] += 1
        yield {name: clip[name] for name in dataset.Index.__dataclass_fields__}
      reader.close()

  index = dataset.Index.of(rows())
  return frames, {str(count): persons[count] for count in sorted(persons)}, index
