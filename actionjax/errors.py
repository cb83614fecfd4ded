"""The errors that a user can mend: one line each, naming the thing and the remedy."""


class UserError(ValueError):
  """A mistake in what the user gave (a flag, a config key, a file).

  Commands print its message as one line on stderr and exit with status 1;
  everything else that is raised is a defect and keeps its traceback.
  """


class RawDataError(UserError):
  """A raw dataset's file is missing, truncated, malformed, or of another dataset."""


class UnreadableClipError(UserError):
  """One record cannot be decoded (a corrupt image, an empty clip)."""
