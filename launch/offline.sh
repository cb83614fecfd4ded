#!/usr/bin/env bash
# Packs this checkout, wheels and a cut of a prepared dataset into one folder, for a machine
# without network:  launch/offline.sh DIR [options]   (--help lists them; launch/README.md)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$(command -v python || command -v python3 || true)}
if [ -z "$python" ]; then
  echo "error: no python found; name one: PYTHON=/path/to/python launch/offline.sh ..." >&2
  exit 1
fi
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" "$root/launch/offline.py" "$@"
