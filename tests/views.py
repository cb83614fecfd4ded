"""What the views of a clip agree on, for tests of single inputs."""
from actionjax.data.loading import inputs


def shared(layout, count: int = 1, modality: str = "colour", **fields) -> list[inputs.Shared]:
  """One `Shared` for each of `count` views along time."""
  return [inputs.Shared(layout, modality, **{"position": (view + 0.5) / count} | fields)
          for view in range(count)]
