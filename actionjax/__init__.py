"""actionjax: human action recognition from video and pose in JAX.

`actionjax.load(path)` gives a trained model that classifies clips; everything else is reached
through its module.
"""

__version__ = "0.1.0"


def load(path):
  """The model of a run, as an `inference.recogniser.Recogniser`. See there."""
  from actionjax.inference import recogniser
  return recogniser.load(path)
