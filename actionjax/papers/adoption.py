"""What recipes have in common where they test a converted checkpoint and train nothing."""
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError


def check(args: Mapping[str, Any], defaults: Mapping[str, Any], *training: str) -> None:
  """Raises UserError where arguments that are for training were given beside `test`."""
  changed = [name for name in training if args[name] != defaults[name]]
  if args["test"] and changed:
    raise UserError(f"config argument test={args['test']} trains nothing: leave out "
                    f"{', '.join(changed)}")
