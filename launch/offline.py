"""Packs what a machine without network needs to train: see launch/README.md.

  launch/offline.sh DIR --dataset=utd_mhad --size=168 --python=3.12 --platform=manylinux_2_28_x86_64

DIR then holds `checkout`, `wheels`, `data`, `run.sh`, and `pack.json`, which says what is in it.
"""
import argparse
import ast
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from actionjax.data import catalogue

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Training on prepared records imports neither: one writes records, the other reads videos.
LEFT_OUT = ("tensorflow-datasets", "av")
# Read directly, where setup.py relies on the packages that pull them in.
DIRECT = ("array-record", "protobuf")
# The older names of glibc versions in wheels' tags.
_OLD_TAGS = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_SETTINGS = ("--disable-pip-version-check", "--quiet", "--only-binary=:all:")
_MIB = 2**20


class PackError(Exception):
  """A mistake of the user's; one line that names the remedy."""


def normal(name: str) -> str:
  """A distribution's name as the index compares it: "ml_collections" is "ml-collections"."""
  return re.sub(r"[-_.]+", "-", name.strip()).lower()


def requirements() -> list[str]:
  """What a training on prepared records needs, with versions, by setup.py."""
  for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
    if isinstance(node, ast.keyword) and node.arg == "install_requires":
      listed = ast.literal_eval(node.value)
      return [item for item in listed if distribution(item) not in LEFT_OUT] + list(DIRECT)
  raise PackError(f"{ROOT / 'setup.py'} lists no install_requires")


def distribution(requirement: str) -> str:
  """The name in "grain>=0.2.18; marker" or "etils[epath]", normalised."""
  return normal(re.match(r"[A-Za-z0-9._-]+", requirement.strip())[0])


def tags(platform: str) -> list[str]:
  """The platform tags of wheels that run on a platform; pip compares them letter by letter.

  Args:
    platform: such as manylinux_2_28_x86_64, which runs what was built for any older glibc, too.
  """
  new = re.fullmatch(r"(manylinux|musllinux)_(\d+)_(\d+)_(\w+)", platform)
  if not new:
    return [platform]
  family, major, minor, machine = new[1], int(new[2]), int(new[3]), new[4]
  out = []
  for older in range(minor, -1 if family == "musllinux" else 4, -1):
    out.append(f"{family}_{major}_{older}_{machine}")
    if family == "manylinux" and older in _OLD_TAGS:
      out.append(f"{_OLD_TAGS[older]}_{machine}")
  return out + [f"linux_{machine}"]


def _pip(*arguments: str) -> str:
  """pip's output. Raises PackError with the last line that it says of an error."""
  run = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True)
  if run.returncode:
    errors = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
    last = (errors or run.stderr.splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
    raise PackError(f"pip cannot find the wheels ({last}); mend --python, --platform, or name what "
                    "the machine has itself in --have")
  return run.stdout


def resolve(roots: list[str], python: str | None, platforms: list[str]) -> list[dict]:
  """pip's report on the distributions that the roots need, for another Python and platform.

  Returns:
    one dict a distribution: `metadata` (name, version, requires_dist), `requested_extras`, ...
  """
  if not roots:
    return []
  with tempfile.TemporaryDirectory() as unused:
    text = _pip("install", *_SETTINGS, *_target(python, platforms), "--dry-run", "--report=-",
                "--ignore-installed", f"--target={unused}", *roots)
  return json.loads(text)["install"]


def _target(python: str | None, platforms: list[str]) -> list[str]:
  """pip's arguments for a Python and platforms; none stand for those that run this."""
  out = []
  if python:
    abi = "cp" + python.replace(".", "")
    out += [f"--python-version={python}", "--implementation=cp", f"--abi={abi}", "--abi=abi3",
            "--abi=none"]
  return out + [f"--platform={tag}" for platform in platforms for tag in tags(platform)]


def needed(report: list[dict], roots: list[str], have: set[str],
           environment: dict[str, str]) -> dict[str, str]:
  """What of a report has to travel, {name: version}.

  That is what can be reached from the roots without passing a package of `have`: those, and what
  only they pull in, are on the machine.

  Args:
    environment: of markers, such as {"python_version": "3.12"}, over this machine's.
  """
  from pip._vendor.packaging.requirements import Requirement
  found = {normal(item["metadata"]["name"]): item["metadata"] for item in report}
  waiting = [Requirement(root) for root in roots]
  seen, out = set(), {}
  while waiting:
    requirement = waiting.pop()
    name = normal(requirement.name)
    asked = (name, frozenset(requirement.extras))
    if name in have or asked in seen or name not in found:
      continue
    seen.add(asked)
    out[name] = found[name]["version"]
    for text in found[name].get("requires_dist", ()):
      further = Requirement(text)
      extras = ("", *requirement.extras)
      if further.marker is None or any(
          further.marker.evaluate({**environment, "extra": extra}) for extra in extras):
        waiting.append(further)
  return out


def pack_wheels(folder: pathlib.Path, python: str | None, platforms: list[str], have: set[str],
                more: list[str]) -> dict[str, str]:
  """Downloads the wheels that have to travel; returns {name: version}."""
  folder.mkdir()
  roots = [item for item in requirements() + more if distribution(item) not in have]
  environment = {}
  if python:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
  if any("linux" in platform for platform in platforms):
    environment |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
                    "platform_machine": re.search(r"linux[0-9_]*?_?([a-z]\w*)$", platforms[0])[1]}
  chosen = needed(resolve(roots, python, platforms), roots, have, environment)
  if chosen:
    _pip("download", *_SETTINGS, *_target(python, platforms), "--no-deps", f"--dest={folder}",
         *(f"{name}=={version}" for name, version in sorted(chosen.items())))
  return dict(sorted(chosen.items()))


def pack_checkout(folder: pathlib.Path) -> dict:
  """Copies the tracked files as they are now; returns {"commit", "changed"}."""
  def git(*arguments: str) -> str:
    try:
      return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True,
                            check=True).stdout
    except (OSError, subprocess.CalledProcessError):
      raise PackError(f"{ROOT} is no git checkout, which tells what to pack; clone it") from None

  for name in git("ls-files", "-z").split("\0"):
    source = ROOT / name
    if name and source.is_file():
      target = folder / name
      target.parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(source, target)
  return {"commit": git("rev-parse", "HEAD").strip(),
          "changed": bool(git("status", "--porcelain", "--untracked-files=no").strip())}


def pack_data(folder: pathlib.Path, dataset, arguments) -> dict:
  """Cuts the dataset into the folder; returns {"dataset", "variant", "version", "cut"}."""
  from actionjax.data.preparing import cutting
  made = cutting.cut(dataset, folder, size=arguments.size, frames=arguments.frames,
                     hold=arguments.hold, skeletons_only=arguments.skeletons_only,
                     mib=arguments.mib)
  return {**{key: dataset.info[key] for key in ("dataset", "variant", "version")},
          "clips": made["clips"], "cut": made["cut"]}


def size(path: pathlib.Path) -> int:
  """Bytes of a file, or of all files below a folder."""
  return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path])
             if file.is_file())


def refresh(folder: pathlib.Path) -> dict:
  """Replaces the checkout of a pack by today's, leaving wheels and data; returns its pack.json."""
  try:
    content = json.loads((folder / "pack.json").read_text())
  except (OSError, ValueError):
    raise PackError(f"{folder} holds no pack whose checkout could be replaced; leave out "
                    "--checkout_only") from None
  old, new = folder / "checkout", folder / "checkout.new"
  shutil.rmtree(new, ignore_errors=True)  # of a run that was ended
  content |= pack_checkout(new)
  shutil.rmtree(old, ignore_errors=True)
  new.rename(old)
  return _finish(folder, content)


def _finish(folder: pathlib.Path, content: dict) -> dict:
  """Writes run.sh and, last, pack.json with the sizes."""
  shutil.copy2(ROOT / "launch" / "offline_run.sh", folder / "run.sh")
  content["bytes"] = {part: size(folder / part) for part in ("checkout", "data", "wheels")}
  (folder / "pack.json").write_text(json.dumps(content, indent=1) + "\n")
  return content


def pack(arguments) -> dict:
  """Makes the folder; returns what pack.json holds."""
  folder = pathlib.Path(arguments.folder)
  if arguments.checkout_only:
    return refresh(folder)
  if arguments.dataset is None:
    raise PackError("--dataset is missing: a prepared dataset, such as utd_mhad")
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise PackError(f"{folder} is not an empty folder; give another one, or delete it")
  if arguments.python is not None and not re.fullmatch(r"3\.\d{1,2}", arguments.python):
    raise PackError(f"--python={arguments.python} must be a version such as 3.12")
  for platform in arguments.platform:
    if not re.fullmatch(r"\w+", platform):
      raise PackError(f"--platform={platform} must be a wheel's tag such as manylinux_2_28_x86_64")
  dataset = catalogue.open_dataset(arguments.data_dir, arguments.dataset, arguments.variant)
  made_here = not folder.exists()
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise PackError(f"cannot make {folder} ({error.strerror}); give another folder") from None
  try:
    have = {normal(name) for name in arguments.have.split(",") if name.strip()}
    more = [item for item in arguments.need.split(",") if item.strip()]
    content = {"python": arguments.python or "{}.{}".format(*sys.version_info[:2]),
               "platforms": arguments.platform, "have": sorted(have)}
    content |= pack_checkout(folder / "checkout")
    content["wheels"] = pack_wheels(folder / "wheels", arguments.python, arguments.platform, have,
                                    more)
    content |= pack_data(folder / "data", dataset, arguments)
    content = _finish(folder, content)
  except BaseException:
    for entry in folder.iterdir():
      shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if made_here:
      folder.rmdir()
    raise
  return content


class _Parser(argparse.ArgumentParser):
  """Answers a mistake with one line."""

  def error(self, message):
    self.exit(1, f"error: {message}; --help lists the options\n")


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(prog="launch/offline.sh", description=__doc__, allow_abbrev=False,
                   formatter_class=argparse.RawDescriptionHelpFormatter)
  add = parser.add_argument
  add("folder", metavar="DIR", help="empty or new folder for the pack")
  add("--python", help="version there, such as 3.12 (default: of the Python that runs this)")
  add("--platform", action="append", default=[], help="wheels' platform tag there, such as "
      "manylinux_2_28_x86_64 (default: this machine's); may be given several times")
  add("--have", default="", help="packages that the machine has, with their needs: jax,flax,...")
  add("--need", default="", help="further packages to pack, such as scikit-learn")
  add("--dataset", help="prepared dataset, such as utd_mhad")
  add("--variant", help="of the dataset (default: its first)")
  add("--data_dir", help="where it is prepared (default: $ACTIONJAX_DATA, else ~/.cache/actionjax)")
  add("--size", type=int, help="pixels of the stored frames' longer side (default: as they are)")
  add("--frames", type=int, help="at most so many frames of a clip (default: all)")
  add("--hold", action="store_true", help="keep every skeleton; a frame that --frames takes away "
      "is replaced by the nearest one, instead of thinning skeletons with the frames")
  add("--skeletons_only", action="store_true", help="leave the frames away")
  add("--mib", type=float, default=40.0, help="the most that the cut may take (default: 40)")
  add("--checkout_only", action="store_true", help="replace the code in an earlier pack by "
      "today's, and nothing else")
  return parser


def main() -> None:
  """Packs, and prints the sizes."""
  arguments = _parser().parse_args()
  from actionjax.errors import UserError
  try:
    content = pack(arguments)
  except (PackError, UserError) as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print("error: interrupted; nothing was left behind", file=sys.stderr)
    sys.exit(130)
  for part, count in content["bytes"].items():
    print(f"{part:10} {count / _MIB:7.2f} MiB")
  print(f"{'total':10} {size(pathlib.Path(arguments.folder)) / _MIB:7.2f} MiB "
        f"in {arguments.folder}")
  if content["wheels"]:
    print("wheels: " + ", ".join(f"{name} {v}" for name, v in content["wheels"].items()))
  print(f"there: {arguments.folder}/run.sh RESULTS MINUTES")


if __name__ == "__main__":
  main()
