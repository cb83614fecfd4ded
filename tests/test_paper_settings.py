"""What the shipped configs train with, against the papers' and released settings written down here,
and for the small sets against those that RESULTS.md's numbers were measured with."""
import pytest

from actionjax import configuration
from actionjax.papers import hac, posec3d
from actionjax.papers import stgcn as graph_networks

SMALL = dict(name="adamw", schedule="cosine", warmup=0.1, clip_norm=5.0)

# PYSKL's configs/posec3d: 8 GPUs of 32 clips, 24 epochs of a data set repeated ten times.
POSEC3D_SGD = dict(name="sgd", learning_rate=0.4, momentum=0.9, weight_decay=3e-4, decay_all=True,
                   schedule="cosine", clip_norm=40.0)
POSEC3D_CLIP = dict(num_frames=48, persons=0, size=(56, 56), test_size=(64, 64))
POSEC3D = dict(batch_size=256, epochs=240.0, optim=POSEC3D_SGD,
               data=dict(flip=0.5, pose2d=POSEC3D_CLIP),
               model=dict(dropout=0.5, maps=dict(sigma=0.6, size=(56, 56), test_size=(64, 64)),
                          backbone=dict(stage_sizes=(4, 6, 3), width=32)))

# PYSKL's configs/rgbpose_conv3d: 8 GPUs of 12, 16 and 6 clips; 18 epochs of ten, and 20.
RGBPOSE_SGD = dict(name="sgd", momentum=0.9, decay_all=True, clip_norm=40.0)
RGBPOSE_DATA = dict(flip=0.5, video=dict(num_frames=8, size=(224, 224), test_size=(256, 256)),
                    pose2d=dict(num_frames=32, persons=0, size=(224, 224), test_size=(256, 256)))
RGBPOSE_MODEL = dict(dropout=0.5, maps=dict(sigma=0.7, scale=0.25, size=(56, 56),
                                            test_size=(64, 64)))
RGBPOSE = {
    "rgb": dict(batch_size=96, epochs=180.0, model=dict(dropout=0.5),
                data=dict(flip=0.5, video=dict(num_frames=8, size=(224, 224),
                                               test_size=(224, 224))),
                optim=dict(RGBPOSE_SGD, learning_rate=0.15, weight_decay=1e-4, schedule="cosine")),
    "pose": dict(batch_size=128, epochs=180.0, model=RGBPOSE_MODEL, data=RGBPOSE_DATA,
                 optim=dict(RGBPOSE_SGD, learning_rate=0.2, weight_decay=3e-4, schedule="cosine")),
    "joint": dict(batch_size=48, epochs=20.0, model=RGBPOSE_MODEL, data=RGBPOSE_DATA,
                  optim=dict(RGBPOSE_SGD, learning_rate=0.0075, weight_decay=1e-4,
                             schedule="steps", drops=(0.6, 0.8), drop=0.1)),
}

# PYSKL's configs/stgcn++: 8 GPUs of 16 clips, 16 epochs of a data set repeated five times.
GRAPH = {"network": dict(
    batch_size=128, epochs=80.0, drop_joints=0.0,
    data=dict(graph=dict(num_frames=100, persons=2, dimensions=3)),
    optim=dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4,
               decay_all=True, schedule="cosine"))}

# Sections "Preprocessing" and "Implementation details" of the hierarchical classification's papers.
HAC_ADAM = dict(name="adam", learning_rate=1e-4, schedule="constant", plateau_factor=0.1,
                plateau_patience=1)
HAC_DATA = dict(flip=0.5, validation=0.1,
                video=dict(num_frames=8, size=(224, 224), crop=0.875, margin=0.1))
HAC = dict(batch_size=16, epochs=20.0, optim=HAC_ADAM, data=HAC_DATA)
HAC_NAMES = ("baseline", "uncropped", "crop", "full", "retrain")
HAC_UTD = dict(
    batch_size=8, epochs=50.0, ema=0.995,
    optim=dict(SMALL, learning_rate=1e-3, weight_decay=0.02),
    data=dict(validation=0.1, time_jitter=0.15,
              video=dict(num_frames=8, size=(64, 64), channels=1, crop=0.9)),
    model=dict(backbone=dict(depth=18, width=16), dtype="float32"))

# Das' thesis, section 4.4; the joint training's rate is the released code's for P-I3D. The
# backbone's training: the released fine-tuning, an L2 penalty of 0.01 w^2 on the classifier.
VPN_DATA = dict(flip=0.0, video=dict(num_frames=64, size=(224, 224), stride=2),
                pose=dict(num_poses=20, persons=2))
VPN = dict(batch_size=16, data=VPN_DATA,
           optim=dict(name="adam", learning_rate=1e-3, schedule="steps", drops=(1 / 3, 2 / 3),
                      clip_norm=5.0))
VPN_SGD = dict(name="sgd", learning_rate=0.01, momentum=0.9)
VPN_BACKBONE = dict(VPN, epochs=30.0, optim=dict(
    VPN_SGD, weight_decay=0.02, decay_on=("head/",), plateau_factor=0.1, plateau_patience=10))
VPN_RELEASED_DATA = dict(video=dict(num_frames=16), pose=dict(num_poses=16, persons=1))
VPN_UTD = dict(batch_size=8, ema=0.995,
               data=dict(time_jitter=0.15, pose=dict(num_poses=20, persons=1, rotate=15.0),
                         video=dict(num_frames=16, size=(56, 56), channels=1, crop=0.9)))

# Config:argument -> its trainings by name -> what these state, `optim` with every key.
TRAININGS = {
    "posec3d_ntu60": {"network": POSEC3D},
    "posec3d_ntu60:kind=joint+limb": {"joint": POSEC3D, "limb": POSEC3D},
    "posec3d_ntu60:batch=64": {"network": dict(
        POSEC3D, batch_size=64, optim=dict(POSEC3D_SGD, learning_rate=0.1))},
    "posec3d_ntu120": {"network": POSEC3D},
    "posec3d_gym": {"network": POSEC3D},
    "posec3d_k400": {"network": dict(
        POSEC3D, optim=dict(POSEC3D_SGD, weight_decay=1e-4),
        data=dict(pose2d=POSEC3D_CLIP),
        model=dict(backbone=dict(stage_sizes=(3, 4, 6), width=32)))},
    "posec3d_volleyball": {"network": dict(
        POSEC3D, data=dict(pose2d=dict(POSEC3D_CLIP, num_frames=12)),
        model=dict(backbone=dict(stage_sizes=(4, 6, 3), width=16)))},
    "posec3d_utd_mhad:cpu": {"network": dict(
        batch_size=8, epochs=125.0, ema=0.995, data=dict(pose=dict(num_poses=16, rotate=30.0)),
        model=dict(dropout=0.2, maps=dict(sigma=1.2, size=(32, 32), rotate=20.0, stretch=0.25,
                                          shift=0.1)),
        optim=dict(SMALL, learning_rate=2e-3, weight_decay=0.05))},
    "rgbpose_ntu60": RGBPOSE,
    "rgbpose_ntu120": RGBPOSE,
    "rgbpose_gym": RGBPOSE,
    "rgbpose_ntu60:gpus=0.5,epochs=0.1": {
        "rgb": dict(batch_size=6, epochs=18.0, optim=dict(
            RGBPOSE["rgb"]["optim"], learning_rate=0.15 / 16)),
        "pose": dict(batch_size=8, epochs=18.0, optim=dict(
            RGBPOSE["pose"]["optim"], learning_rate=0.2 / 16)),
        "joint": dict(batch_size=3, epochs=2.0, optim=dict(
            RGBPOSE["joint"]["optim"], learning_rate=0.0075 / 16))},
    "rgbpose_ntu60:gpus=0.01": {
        name: dict(batch_size=1, optim=dict(RGBPOSE[name]["optim"], learning_rate=rate))
        for name, rate in (("rgb", 0.15 / 96), ("pose", 0.2 / 128), ("joint", 0.0075 / 48))},
    "stgcnpp_ntu60": GRAPH,
    "stgcnpp_ntu60:batch=32": {"network": dict(
        GRAPH["network"], batch_size=32,
        optim=dict(GRAPH["network"]["optim"], learning_rate=0.025))},
    "stgcnpp_ntu120": GRAPH,
    "stgcnpp_utd_mhad:cpu": {"network": dict(
        batch_size=16, epochs=50.0, ema=0.995, data=dict(pose=dict(num_poses=48, rotate=20.0)),
        model=dict(dropout=0.3, block_dropout=0.1, width=48),
        optim=dict(SMALL, learning_rate=2e-3, weight_decay=0.05))},
    "hac_ntu60": dict.fromkeys(HAC_NAMES, HAC),
    "hac_ntu120": dict.fromkeys(HAC_NAMES, HAC),
    "hac_nucla": dict.fromkeys(HAC_NAMES, HAC),
    "hac_utd_mhad:cpu": dict.fromkeys(HAC_NAMES, HAC_UTD) | {"retrain": dict(HAC_UTD, epochs=8.0)},
    "vpn_ntu120": {"backbone": VPN_BACKBONE, "joint": dict(VPN, epochs=10.0)},
    # What CTR-GCN and the graph networks after it share.
    "stgcnpp_nucla": {"network": dict(
        batch_size=16, epochs=325.0, model=dict(name="stgcn", normalise="range"),
        data=dict(pose=dict(num_poses=52, sampling="drawn", rotate=60.0, tilt=60.0,
                            scale=(0.5, 1.5))),
        optim=dict(name="sgd", learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
                   decay_all=True, schedule="steps", warmup=5 / 65, drops=(50 / 65,), drop=0.1))},
    "vpn_ntu60": {"backbone": VPN_BACKBONE, "joint": dict(VPN, epochs=10.0)},
    "vpn_smarthome": {name: dict(step, data=VPN_DATA | dict(pose=dict(num_poses=30, persons=1)))
                      for name, step in (("backbone", VPN_BACKBONE),
                                         ("joint", dict(VPN, epochs=10.0)))},
    "vpn_nucla": {name: dict(step, data=VPN_DATA | dict(pose=dict(num_poses=5, persons=1)))
                  for name, step in (("backbone", VPN_BACKBONE),
                                     ("joint", dict(VPN, epochs=10.0)))},
    "vpn_ntu120:released=true": {
        "backbone": dict(VPN_BACKBONE, data=VPN_RELEASED_DATA),
        "joint": dict(batch_size=4, epochs=250.0, data=VPN_RELEASED_DATA,
                      optim=dict(VPN_SGD, clip_norm=5.0))},
    "vpn_utd_mhad:cpu": {
        "pose": dict(VPN_UTD, epochs=40.0, optim=dict(SMALL, learning_rate=2e-3,
                                                      weight_decay=0.02)),
        "joint": dict(VPN_UTD, epochs=72.0, optim=dict(SMALL, learning_rate=1e-3,
                                                       weight_decay=0.02))},
    "own_data": {"network": dict(
        batch_size=8, epochs=60.0, ema=0.995, data=dict(video=dict(num_frames=16, size=(112, 112))),
        optim=dict(SMALL, learning_rate=1e-3, weight_decay=0.02))},
}
# Config:argument -> views of a clip at test.
VIEWS = {
    "posec3d": dict(temporal=10, flips=True), "posec3d_utd_mhad": dict(temporal=4),
    # One clip is not mirrored.
    "posec3d_ntu60:clips=1": dict(temporal=1, flips=False),
    "rgbpose": dict(temporal=10), "stgcnpp": dict(temporal=10),
    "stgcnpp_utd_mhad": dict(temporal=4), "stgcnpp_nucla": dict(temporal=1),
    "hac": dict(temporal=5),
    "vpn": dict(temporal="all", aggregate="max"), "vpn_utd_mhad": dict(temporal=4),
    "own_data": dict(temporal=4)}


def _load(argument):
  return configuration.to_dict(
      configuration.load(f"{configuration.shipped_directory()}/{argument.replace(':', '.py:', 1)}"
                         f"{'' if ':' in argument else '.py'}"))


def _flat(config):
  """Every step of a config, those of repeated groups too, laid over what the config shares."""
  shared = {key: value for key, value in config.items() if key not in ("name", "steps")}
  return [configuration.merge(shared, step) for outer in config["steps"]
          for step in outer.get("steps", (outer,))]


def _assert_states(found, expected, path):
  for key, value in expected.items():
    assert key in found, f"{path}.{key} is not stated"
    if isinstance(value, dict) and key != "optim":
      _assert_states(found[key], value, f"{path}.{key}")
    else:
      assert found[key] == value, f"{path}.{key}"


def test_every_config_is_in_the_table():
  shipped = {path.stem for path in configuration.shipped_directory().glob("*.py")}
  # The quickstart's numbers are nobody's but RESULTS.md's.
  assert {key.partition(":")[0] for key in TRAININGS} == shipped - {"__init__", "quickstart"}


@pytest.mark.parametrize("argument", TRAININGS)
def test_trainings_are_the_published_ones(argument):
  found = {step["name"]: step for step in _flat(_load(argument)) if step["kind"] == "train"}
  assert set(found) == set(TRAININGS[argument])
  for name, expected in TRAININGS[argument].items():
    _assert_states(found[name], expected, f"{argument}: {name}")


@pytest.mark.parametrize("argument", [*TRAININGS, "posec3d_ntu60:clips=1"])
def test_views_are_the_published_ones(argument):
  name = argument.partition(":")[0]
  expected = next(VIEWS[key] for key in (argument, name, name.partition("_")[0]) if key in VIEWS)
  evaluations = [step for step in _flat(_load(argument)) if step["kind"] == "evaluate"]
  assert evaluations
  for step in evaluations:
    assert step["views"] == expected


@pytest.mark.parametrize("name, levels, weights, counts", [
    ("hac_ntu60", (2, 6, 20), (0.125, 0.25, 0.5, 1.0), "hard"),
    ("hac_ntu120", (4, 12, 40), (0.125, 0.25, 0.5, 1.0), "hard"),
    ("hac_nucla", (None, 2, 5), (None, 0.0625, 0.25, 1.0), "hard"),
    ("hac_utd_mhad", (None, 3, 9), (None, 0.0625, 0.25, 1.0), "soft")])
def test_hierarchies_and_pruning_are_the_papers(name, levels, weights, counts):
  config = _load(name)
  steps = _flat(config)
  of = lambda kind: [step for step in steps if step["kind"] == kind]
  assert [(step["levels"], step["counts"]) for step in of("group")] == [(levels, counts)] * 2
  heads = {step["name"]: (step["model"]["levels"], step["loss"]) for step in of("train")}
  whole, plain = dict(name="hierarchical", weights=weights), dict(name="cross_entropy")
  assert heads == {"baseline": ((), plain), "crop": ((), plain), "uncropped": (levels, whole),
                   "full": (levels, whole), "retrain": (levels, whole)}
  # Figure 5: every classifier by itself, on the first 500 clips.
  assert [step["weights"] for step in of("gradients")] == [tuple(w and 1.0 for w in weights)]
  # Whole frames of the other variant, and nothing else, is what rows without crops differ in.
  for step in of("train"):
    bare = step["name"] in ("baseline", "uncropped")
    assert step["data"].get("variant") == ("uncropped" if bare else None)
    assert step["data"]["video"].get("box") == ("frame" if bare else None)
  assert {(step["scope"], step["fraction"], step["norm"]) for step in of("prune")} == {
      ("altogether", 0.1, "l2"), ("by_layers", 0.1, "l2")}
  repeats = [step for step in config["steps"] if step["kind"] == "repeat"]
  assert [(step["name"], step["passes"], step["patience"]) for step in repeats] == [
      ("altogether", 8, 2), ("by_layers", 8, 2)]


def test_levels_weights_and_fractions_reach_the_steps():
  steps = _flat(_load("hac_ntu60:levels=3:none:30,weights=1:none:1/4:1/8,fraction=0.15"))
  for step in steps:
    if step["kind"] == "group":
      assert step["levels"] == (3, None, 30)
    if step["kind"] == "train" and step["name"] in ("full", "uncropped", "retrain"):
      assert step["model"]["levels"] == (3, None, 30)
      assert step["loss"]["weights"] == (1.0, None, 0.25, 0.125)
    if step["kind"] == "prune":
      assert step["fraction"] == 0.15
  # Levels that the usual weights leave out get 1.
  joint = next(step for step in _flat(_load("hac_utd_mhad:levels=9:3:9")) if step["name"] == "full")
  assert joint["loss"]["weights"] == (1.0, 1 / 16, 1 / 4, 1.0)


def test_both_passes_start_alike_and_leak_is_the_papers_protocol():
  starts = lambda argument: {
      step["name"]: (step["init_from"], step.get("init_as")) for step in _flat(_load(argument))
      if step["kind"] == "train"}
  assert starts("hac_utd_mhad") == {
      "baseline": ((), None), "uncropped": ((), "baseline"), "crop": ((), None),
      "full": ((), "crop"), "retrain": ((dict(source="prune"),), None)}
  assert starts("hac_utd_mhad:warm_start=true")["full"] == ((dict(source="crop"),), None)
  for argument, side, end in (("hac_ntu60", "train", "validation"),
                              ("hac_ntu60:leak=true", "test", "test")):
    config = _load(argument)
    for step in _flat(config):
      if step["kind"] == "train":
        assert step["data"]["validation_from"] == side and step["split"] == "fit"
        assert step["validate"]["split"] == "validation"
    for step in config["steps"]:
      if step["kind"] == "repeat":
        assert (step["monitor"], step["start"]) == (f"retrain_{end}", f"full_{end}")


def test_figures_of_the_tables():
  rows = lambda argument: {
      row["label"]: row.get("paper") for step in _load(argument)["steps"]
      if step["kind"] == "table" for row in step["rows"]}
  assert rows("rgbpose_ntu60") == {
      "video alone": 94.9, "skeletons alone": 93.2, "late fusion": 96.0, "RGBPose-SlowFast": 96.5}
  assert rows("rgbpose_ntu60:frames=16,poses=48")["RGBPose-SlowFast"] == 97.0
  assert rows("rgbpose_ntu120:frames=16,poses=48")["RGBPose-SlowFast"] == 95.3
  assert rows("rgbpose_gym")["late fusion"] == 93.4
  # Of the three tables whose rows are arguments, what they print and nothing else.
  full = lambda argument: rows(f"hac_ntu60:{argument}")["full (crop + hierarchy)"]
  for argument, expected in (
      ("weights=1/64:1/16:1/4:1", 95.36), ("weights=1/27:1/9:1/3:1", 95.07),
      ("weights=1/8:1/4:1/2:1", 95.45), ("weights=1:1:1:1", 95.31),
      ("weights=1:1/2:1/4:1/8", 93.91), ("weights=1:1/3:1/9:1/27", 93.22),
      ("weights=1:1/4:1/16:1/64", 92.21), ("levels=2:6:20", 95.45), ("levels=3:10:30", 95.25),
      ("levels=4:12:30", 95.25), ("levels=5:15:30", 95.20), ("levels=6:12:30", 95.39),
      ("levels=10:20:30", 95.04), ("levels=60:60:60", 95.21), ("levels=2:6:30", None),
      ("levels=3:10:30,weights=1:1:1:1", None), ("depth=18", None), ("fraction=0.05", 95.45)):
    assert full(argument) == expected, argument
  cross_view = "protocol=cross_view,"
  assert full(cross_view + "weights=1/27:1/9:1/3:1") == 98.41
  assert full(cross_view + "levels=60:60:60") == 98.37
  depths = {depth: rows(f"hac_ntu60:depth={depth}") for depth in (18, 34, 101)}
  assert {depth: found["+ crop"] for depth, found in depths.items()} == {
      18: 93.83, 34: 93.91, 101: 95.19}
  assert depths[18]["pruned altogether, pass"] is None
  ratios = {p: rows(f"hac_ntu60:fraction={p}")["pruned altogether, pass"] for p in (0.05, 0.15)}
  assert ratios == {0.05: (94.84, 95.17, 94.92, 94.87), 0.15: (95.08, 95.21, 95.00, 95.10)}
  assert rows("hac_ntu60")["pruned altogether, pass"] == (95.52, 95.61, 95.60, 95.66, 95.41, 95.47)
  found = rows("hac_ntu120:protocol=cross_setup")
  assert found["baseline (uncropped)"] == 86.20 and found["+ hierarchy, no crop"] == 86.98
  assert found["pruned by layers, pass"] == (94.54, 94.48, 94.48)
  assert found["the best of them, compacted"] is None


def test_adopted_networks_compute_in_float32():
  for argument, dtype in (("posec3d_ntu60", "bfloat16"), ("posec3d_ntu60:test=DIR", "float32"),
                          ("rgbpose_ntu60", "bfloat16"), ("rgbpose_ntu60:test=DIR", "float32"),
                          ("posec3d_ntu60:test=DIR,dtype=bfloat16", "bfloat16"),
                          ("stgcnpp_ntu60", "float32")):
    step = _load(argument)["steps"][0]
    assert step["kind"] == ("adopt" if "test=" in argument else "train")
    assert step["model"]["dtype"] == dtype


def test_what_papers_say_is_no_number_of_a_training():
  """Recipes name networks and order steps: what they are given is all that trainings are told."""
  args = configuration.arguments("", scopes="both", uncropped=True, leak=False, init="", depth=50,
                                 warm_start=False, levels="", weights="", fraction=0.1)
  sections = dict(data=dict(dataset="x", protocol="y"), model={}, weights=(), group=dict(levels=()),
                  retrain={}, evaluate={}, repeat={}, prune={})
  for step in _flat(dict(steps=hac.steps(args, train=dict(optim={}), **sections))):
    if step["kind"] == "train":
      assert step["optim"] == {} and not {"epochs", "batch_size", "ema"} & set(step)
  args = configuration.arguments("", network="slowonly", kind="limb", released="pyskl", test="",
                                 dtype="")
  trained, tested = posec3d.steps("", args, model=dict(maps={}), train={}, evaluate={})
  assert set(trained) == {"kind", "name", "model", "loss"}
  assert set(tested) == {"kind", "name", "model_from"}
  args = configuration.arguments("", network="stgcnpp", stream="bone", dimensions=3,
                                 released="pyskl", test="", dtype="float32")
  trained, tested = graph_networks.steps("", args, train={}, evaluate={})
  assert set(trained) == {"kind", "name", "model", "loss", "data"}
  assert set(tested) == {"kind", "name", "model_from"}
