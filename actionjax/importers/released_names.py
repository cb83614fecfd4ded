"""What PYSKL's and MMAction2's checkpoints have in common, whatever network they hold: prefixes,
averaged weights beside the others, names of the classifier."""
from collections.abc import Mapping

import numpy as np

from actionjax.errors import UserError

# Of wrappers around the network: data-parallel training, averaging, a trainer's own class.
_PREFIXES = ("module.", "model.")
# What the names of a backbone alone begin with.
_BACKBONES = ("conv1.conv.", "conv1a.conv.", "conv1_s.conv.", "rgb_path.", "gcn.0.", "sgcn1.",
              "st_gcn_networks.", "net.0.gcn1.", "agcn_networks.")
_CLASSIFIERS = ("cls_head.fc_cls.", "cls_head.fc.")
CLASSIFIER = "cls_head.fc"
# Of networks that are not implemented here: what their names begin with below `backbone.`.
_OTHERS = (("net.0.gcn1.", "CTR-GCN"), ("gcn.0.gcn.conv_d.", "AAGCN"),
           ("gcn.0.gcn.pre.", "DG-STGCN"), ("agcn_networks.", "2s-AGCN"), ("joint_embed.", "SGN"))
GRAPH_NETWORKS = ("gcn.0.", "sgcn1.", "st_gcn_networks.")


def canonical(state: Mapping[str, np.ndarray], *, ema: bool = False,
              source: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
  """A state with the names that both projects agree on, and what was left out of it.

  Names begin with `backbone.` or `cls_head.`, the classifier is `cls_head.fc`. Counters and what
  belongs to the input's scaling are left out, and of mmcv's averaged weights (`ema_*`, which
  stand beside those of the same name) one half: mmcv exchanges both before it saves at an epoch's
  end, so that the plain names usually hold the average, and are what the projects' own tests
  load.

  Args:
    state: arrays by the file's names.
    ema: take the `ema_*` arrays in place of those that they stand beside.
    source: names the file in messages.

  Raises:
    UserError: `ema` where there are no such arrays, or some that stand beside nothing; a network
      that is not implemented here, by its name.
  """
  plain, averaged, scaling = {}, {}, []
  for name, value in state.items():
    while name.startswith(_PREFIXES):
      name = name.partition(".")[2]
    if name.startswith("data_preprocessor."):
      scaling.append(name)
    elif name.startswith("ema_"):
      averaged[name] = np.asarray(value)
    elif not name.endswith(".num_batches_tracked"):
      plain[name] = np.asarray(value)
  left_out = scaling
  if averaged and not ema:
    left_out = [f"ema_* ({len(averaged)} arrays)", *scaling]
  elif ema:
    plain = _with_averages(plain, averaged, source)
  if not any(name.startswith(("backbone.", "cls_head.")) for name in plain) and any(
      name.startswith(_BACKBONES) for name in plain):
    plain = {f"backbone.{name}": value for name, value in plain.items()}
  for start, title in _OTHERS:
    if any(name.startswith(f"backbone.{start}") for name in plain):
      raise UserError(f"{source} is {title}, which is not implemented here; of graph networks "
                      "there are ST-GCN, ST-GCN++ and MS-G3D")
  return {_classifier(name): value for name, value in plain.items()}, tuple(left_out)


def has_graph_network(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a canonical state is a graph network's."""
  return any(name.startswith(f"backbone.{start}") for start in GRAPH_NETWORKS for name in state)


def has_head(state: Mapping[str, np.ndarray]) -> bool:
  """Whether a canonical state has a classifier, or a part of one."""
  return any(name.startswith("cls_head.") for name in state)


def agree(given, told, what: str, source: str):
  """What the user and the file's own config say of something; None where neither does.

  Raises:
    UserError: they contradict each other.
  """
  if None not in (given, told) and given != told:
    raise UserError(f"{source}: its own config says {what}={told}, not {given}; leave out --{what}")
  return told if given is None else given


def _with_averages(plain, averaged, source):
  if not averaged:
    raise UserError(f"{source} holds no ema_* arrays; mmengine's files have the average under the "
                    "plain names: leave out --ema")
  beside = {f"ema_{name.replace('.', '_')}": name for name in plain}
  alone = sorted(set(averaged) - set(beside))
  if alone:
    raise UserError(f"{source}: nothing stands beside {', '.join(alone[:4])}"
                    f"{', ...' if len(alone) > 4 else ''}")
  return plain | {beside[name]: value for name, value in averaged.items()}


def _classifier(name):
  for start in _CLASSIFIERS:
    if name.startswith(start):
      return f"{CLASSIFIER}.{name.removeprefix(start)}"
  return name
