"""Old names, of modules, config keys and flags: refused in one line that gives the new one."""
import re

_MODULES = {
    "data": {
        **{old: f"data.builders._{old}" for old in ("cad", "kinect", "msr_daily", "ntu",
                                                     "ntu_skeletons")},
        **{old: f"data.clips.{old}" for old in ("boxes", "image_frames", "protocols",
                                                 "skeleton_arrays", "videos")},
        **{old: f"data.formats.{old}" for old in ("archives", "findings", "matlab", "plain_npz",
                                                   "plain_pickle", "raw_files")},
        **{old: f"data.loading.{old}" for old in ("clip_transform", "pipeline", "pose2d",
                                                   "pose_sampling", "sampling", "transforms")},
        **{old: f"data.preparing.{old}" for old in ("beam", "cutting", "preparation", "staging",
                                                     "tfds_dataset")},
        "clip_encoding": "data.clips.encoding",
        "graph_clips": "data.loading.graph",
        "image_headers": "data.formats.images",
        "interchange": "data.own.interchange_files",
        "records": "data.clips.record or data.clips.dataset",
        "sections": "data.loading.config",
        "validation": "data.own.validation",
        "workers": "workers",
    },
    "papers": {"posec3d_recipe": "papers.posec3d", "rgbpose_recipe": "papers.rgbpose",
               "gcn_recipe": "papers.stgcn"},
    "models": {"hac": "models.video_network"},
    "training": {"metrics": "training.metric_writer", "steps": "training.train_step"},
    "": {"hierarchy_bounds": "hierarchy.bounds"},
}
# Full old name -> full new name.
MODULES = {
    ".".join(filter(None, ("actionjax", room, old))): " or ".join(
        f"actionjax.{name}" for name in new.split(" or "))
    for room, names in _MODULES.items() for old, new in names.items()}


# Old key of a config -> new one, wherever the new one is known.
KEYS = {"part": "split", "turn": "rotate", "fit": "fill"}
# Old flag of a command -> new one.
FLAGS = {"part": "split"}


def module(name: str) -> str | None:
  """One line for the old name of a module, given in full; None for any other name."""
  return f"{name} is now {MODULES[name]}" if name in MODULES else None


def explain(error: ImportError) -> str | None:
  """One line for an import that failed because it names a module as it was once called."""
  missing = re.search(r"No module named '([\w.]+)'", str(error))
  if missing:
    return module(missing[1])
  # `from PACKAGE import NAME`; error.name_from exists from Python 3.12 on.
  absent = re.search(r"cannot import name '(\w+)' from '([\w.]+)'", str(error))
  return module(f"{absent[2]}.{absent[1]}") if absent else None
