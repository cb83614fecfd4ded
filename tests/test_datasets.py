"""What every dataset says of itself, published ones and users' own."""
import dataclasses
import inspect
import json
import pickle
import re

import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data import builders, catalogue, own
from actionjax.data.clips.dataset import Index
from actionjax.data.clips.definition import Dataset
from actionjax.errors import UserError
from tests import raw_own

ALL = [catalogue.load(name) for name in builders.names()]
# JHMDB's `setup` says for each of three splits whether a clip trains (bits 0-2) or tests (3-5).
SETUPS = {"jhmdb": [bits for bits in range(64) if not bits & bits >> 3 & 7]}


def index_for(dataset: Dataset) -> Index:
  """Clips of every label, subject, camera and setup that any of the datasets has."""
  rng, count = np.random.default_rng(0), 6000
  setups = SETUPS.get(dataset.name, range(33))
  return Index(np.array([f"clip {i}" for i in range(count)]),
               rng.integers(len(dataset.class_names), size=count), rng.integers(107, size=count),
               rng.integers(8, size=count), rng.choice(setups, count), np.full(count, 9))


@pytest.mark.parametrize("dataset", ALL, ids=lambda dataset: dataset.name)
def test_published_datasets(dataset):
  assert catalogue.module(dataset.name).__name__ == f"actionjax.data.builders.{dataset.name}"
  assert catalogue.module(dataset.name).DATASET is dataset
  assert re.fullmatch(r"\d+\.\d+\.\d+", dataset.version)
  assert len(set(dataset.class_names)) == len(dataset.class_names) > 1
  assert all(isinstance(name, str) and name.isprintable() for name in dataset.class_names)
  assert skeletons.layout(dataset.layout).num_joints >= 13
  assert dataset.poses and dataset.modality in ("colour", "depth") and dataset.fps > 0
  assert dataset.needs_raw == (dataset.name != "synthetic_actions")
  for variant in dataset.variants:
    options = dataset.options(variant)
    # They stand in the prepared dataset's info.
    assert json.loads(json.dumps(options)) == options
    inspect.signature(dataset.find).bind("folder", **options)
    inspect.signature(dataset.encode).bind(None, **options)
  assert pickle.loads(pickle.dumps(dataset.encode)) is dataset.encode


@pytest.mark.parametrize("dataset", ALL, ids=lambda dataset: dataset.name)
def test_protocols_of_published_datasets_do_not_mix_the_sides(dataset):
  index = index_for(dataset)
  for name, protocol in dataset.protocols.items():
    parts = protocol(index)
    assert {"train", "test"} <= set(parts) <= {"train", "validation", "test"}, name
    for part, mask in parts.items():
      assert mask.dtype == bool and mask.shape == (len(index),) and mask.any(), (name, part)
    assert np.sum(list(parts.values()), 0).max() == 1, name
    # A clip's side depends on the clip alone, not on the others or on their order.
    order = np.random.default_rng(1).permutation(len(index))[:500]
    some = Index(*(getattr(index, field.name)[order] for field in dataclasses.fields(Index)))
    for part, mask in protocol(some).items():
      np.testing.assert_array_equal(mask, parts[part][order], err_msg=name)


@pytest.mark.parametrize("dataset", ALL, ids=lambda dataset: dataset.name)
def test_classes_in_the_mirror(dataset):
  names, mirror = dataset.class_names, dataset.mirror_classes
  sides = re.compile("left|right|ccw|cw")
  sided = {label for label, name in enumerate(names) if sides.search(name)}
  if mirror is None:
    assert not sided
    return
  assert len(mirror) == len(names) and all(mirror[mirror[i]] == i for i in range(len(names)))
  # Exactly the classes that a side is named in swap, with that of the other side's name.
  assert {label for label, other in enumerate(mirror) if other != label} == sided
  other = {"left": "right", "right": "left", "cw": "ccw", "ccw": "cw"}
  for label in sided:
    assert names[mirror[label]] == sides.sub(lambda found: other[found[0]], names[label])


def test_a_dataset_is_frozen():
  dataset = catalogue.load("utd_mhad")
  with pytest.raises(dataclasses.FrozenInstanceError):
    dataset.layout = "coco_17"
  for field in (dataset.variants, dataset.protocols):
    with pytest.raises(TypeError):
      field["new"] = None
  dataset.options("cropped")["crop"] = False
  assert dataset.options("cropped") == dataset.options(None) == {"crop": True, "video": True}


@pytest.mark.parametrize("fields, message", [
    (dict(layout="kinect"), "layout must be one of cad_15, .*, got 'kinect'"),
    (dict(layout=""), "layout must be one of cad_15, .*, got ''"),
    (dict(modality="rgb"), "modality must be one of colour, depth, none, got 'rgb'"),
    (dict(poses=("pose3d", "pose4d")), "poses must be of pose3d, pose2d, each once, got"),
    (dict(poses=("pose3d", "pose3d")), "poses must be of pose3d, pose2d, each once, got"),
    (dict(class_names=()), "class_names must be different names, got"),
    (dict(class_names=("wave", "wave")), "class_names must be different names, got"),
    (dict(variants={}), "variants must hold one at least"),
    (dict(mirror_classes=(1, 0)), "mirror_classes must give each of the 27 classes the one that"),
    (dict(mirror_classes=(1, 2, 0, *range(3, 27))), "mirror_classes must give each"),
    (dict(mirror_classes=(0,) * 27), "mirror_classes must give each"),
    (dict(mirror_classes=(-1, *range(1, 27))), "mirror_classes must give each")])
def test_what_contradicts_itself_is_refused(fields, message):
  with pytest.raises(UserError, match=f"^dataset utd_mhad: {message}"):
    dataclasses.replace(catalogue.load("utd_mhad"), **fields)


def test_what_an_older_version_prepared_is_named_as_such(tmp_path):
  for name, folder in (("jhmdb", "jhmdb/cropped"), ("folder:mine", "folder/mine")):
    (tmp_path / folder / "1.1.0").mkdir(parents=True)
    (tmp_path / folder / "1.1.0" / "info.json").write_text("{}")
    with pytest.raises(UserError, match=r"is not prepared in .*what is there, of version 1\.1\.0, "
                                        "holds other pictures or poses.*run: python -m"):
      catalogue.open_dataset(str(tmp_path), name)
  # What no version of today has prepared is not on offer.
  assert "prepared there" not in catalogue.not_prepared("folder:other", str(tmp_path))


# ---- users' own ----------------------------------------------------------------------

FACTS = own.Facts(("clap", "wave"), "coco_17", "colour", ("pose2d",), ("split",))


def test_a_users_dataset_as_configs_know_it():
  dataset = catalogue.load("folder:mine", FACTS)
  kind = own.module("folder")
  assert (dataset.name, dataset.version, dataset.encode) == ("folder:mine", kind.VERSION,
                                                             kind.encode)
  assert (dataset.class_names, dataset.layout, dataset.modality, dataset.poses) == (
      ("clap", "wave"), "coco_17", "colour", ("pose2d",))
  assert dataset.variant(None) == "mine" and dataset.options(None) == kind.OPTIONS
  with pytest.raises(UserError, match="unknown variant 'x' of folder:mine; known: mine"):
    dataset.variant("x")
  with pytest.raises(UserError, match="unknown protocol 'fraction' of folder:mine; known: split"):
    dataset.protocol("fraction")
  with pytest.raises(UserError, match="which clips of folder:mine train is told by its prepared"):
    dataset.protocol("split")(index_for(dataset))
  with pytest.raises(UserError, match="nothing is known of folder:mine without its prepared"):
    catalogue.load("folder:mine")
  with pytest.raises(UserError, match="dataset folder:mine: layout must be one of"):
    catalogue.load("folder:mine", dataclasses.replace(FACTS, layout="coco"))


def test_places_of_users_datasets(tmp_path):
  for variant in (None, "mine"):
    assert catalogue.dataset_path(tmp_path, "folder:mine", variant) == (
        tmp_path / "folder/mine" / own.module("folder").VERSION)
  with pytest.raises(UserError, match="unknown variant 'other' of folder:mine; known: mine"):
    catalogue.dataset_path(tmp_path, "folder:mine", "other")


def test_surveyed_and_prepared_data_say_the_same(tmp_path):
  content = raw_own.annotations(7)
  ids = [one["frame_dir"] for one in content["annotations"]]
  content["split"] = {"a_train": ids[:4], "a_val": ids[4:5], "a_test": ids[5:6],
                      "b_train": ids[3:], "b_test": ids[:3]}
  raw = str(raw_own.dump(tmp_path / "a.pkl", content))
  options = own.complete("annotations:mine", {"layout": "coco_17"})
  survey = own.survey("annotations:mine", raw, options)
  surveyed = own.of_survey("annotations:mine", survey, options)
  # Nothing but the value that it returned remembers a survey.
  assert own.survey("annotations:mine", raw, options).splits == survey.splits
  assert [clip.clip_id for clip in surveyed.find(raw, **options)] == [
      clip.clip_id for clip in survey.clips] == ids
  raw_own.prepare("annotations:mine", raw, tmp_path / "data", options={"layout": "coco_17"})
  folder = catalogue.open_dataset(str(tmp_path / "data"), "annotations:mine")
  prepared = catalogue.of(folder)
  # How many persons there are, reading the clips alone tells.
  assert (surveyed.persons, prepared.persons) == (0, 2)
  for field in dataclasses.fields(Dataset):
    if field.name not in ("protocols", "find", "fps", "persons"):
      assert getattr(prepared, field.name) == getattr(surveyed, field.name), field.name
  assert catalogue.facts("annotations:mine", str(tmp_path / "data")) == dataclasses.replace(
      survey.facts, persons=2)
  assert prepared.options(None)["layout"] == "coco_17"
  expected = {"a": {"train": ids[:4], "validation": ids[4:5], "test": ids[5:6]},
              "b": {"train": ids[3:], "test": ids[:3]}}
  for dataset in (surveyed, prepared):
    assert {name: {part: folder.index.clip_id[mask].tolist()
                   for part, mask in protocol(folder.index).items()}
            for name, protocol in dataset.protocols.items()} == expected


def test_codes_of_lists_and_back():
  ids = ["c", "a", "b", "d"]
  splits = {"one": {"train": {"a", "c"}, "test": {"b"}}, "two": {"validation": {"d", "left out"}}}
  codes = own.codes_of(splits, ids)
  assert codes.dtype == np.uint8 and codes.tolist() == [[1, 1, 3, 0], [0, 0, 0, 2]]
  assert own.splits_of(splits, codes, ids) == {"one": splits["one"], "two": {"validation": {"d"}}}


def test_options_that_a_kind_does_not_have():
  with pytest.raises(UserError, match="interchange has no option size; known: none"):
    own.complete("interchange:mine", {"size": 3})
  with pytest.raises(UserError, match="annotations has no option size; known: layout, class_names"):
    own.complete("annotations:mine", {"size": 3})
