"""Raw files in the form of UTD-MHAD, made up: a box of a person that moves sideways."""
import pathlib
import zipfile

import numpy as np
import scipy.io


def skeleton(frames: int, seed: int = 0) -> np.ndarray:
  """d_skel float64[20,3,T]: joints within half a metre of (0, 0, 2.5) m, all different."""
  rng = np.random.default_rng(seed)
  body = rng.uniform([-0.4, -0.7, 2.4], [0.4, 0.7, 2.6], (20, 3))
  sway = np.linspace(0, 0.1, frames)
  return body[:, :, None] + np.stack([sway, 0 * sway, 0 * sway])


def depth(frames: int, seed: int = 0) -> np.ndarray:
  """d_depth uint16[240,320,T]: 2400 to 2600 mm in rows 60-199, columns 110+t to 209+t."""
  rng = np.random.default_rng(seed)
  video = np.zeros((240, 320, frames), np.uint16)
  for t in range(frames):
    video[60:200, 110 + t:210 + t, t] = rng.integers(2400, 2601, (140, 100))
  return video


def write(folder, clips, frames: int = 4, kinds=("depth", "skeleton")) -> pathlib.Path:
  """Writes Depth/ and Skeleton/ with the clips (action, subject, trial); returns folder."""
  folder = pathlib.Path(folder)
  make = {"depth": ("Depth", "d_depth", depth), "skeleton": ("Skeleton", "d_skel", skeleton)}
  for kind in kinds:
    title, variable, function = make[kind]
    (folder / title).mkdir(parents=True, exist_ok=True)
    for a, s, t in clips:
      path = folder / title / f"a{a}_s{s}_t{t}_{kind}.mat"
      scipy.io.savemat(path, {variable: function(frames, 100 * a + 10 * s + t)},
                       do_compression=True)
  return folder


def zipped(folder, target, method=zipfile.ZIP_LZMA) -> pathlib.Path:
  """The same files as Depth.zip and Skeleton.zip in another folder."""
  target = pathlib.Path(target)
  target.mkdir(parents=True, exist_ok=True)
  for part in sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir()):
    with zipfile.ZipFile(target / f"{part.name}.zip", "w", method) as archive:
      for file in sorted(part.iterdir()):
        archive.write(file, f"{part.name}/{file.name}")
  return target
