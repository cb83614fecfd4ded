"""What recipes have in common where they test a converted checkpoint and train nothing."""
from collections.abc import Mapping
from typing import Any

from actionjax import configuration
from actionjax.errors import UserError


def check(arg: str, args: Mapping[str, Any], *training: str) -> None:
  """Raises UserError where arguments that are for training were given beside `test`.

  Args:
    arg: the config's argument string.
    args: its arguments.
    *training: names of those that are for training.
  """
  given = configuration.named(arg)
  superfluous = [name for name in training if name in given]
  if args["test"] and superfluous:
    raise UserError(f"config argument test={args['test']} trains nothing: leave out "
                    f"{', '.join(superfluous)}")


def dtype(args: Mapping[str, Any]) -> str:
  """The compute type of a config's arguments: a network that is only tested computes in float32."""
  return args["dtype"] or ("float32" if args["test"] else "bfloat16")
