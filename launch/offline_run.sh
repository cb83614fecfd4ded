#!/usr/bin/env bash
# On the machine without network:  ./run.sh RESULTS MINUTES [--small] [--only=...] [--skip=...]
# The same line again goes on where this one stopped. See checkout/launch/README.md.
set -euo pipefail
pack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python3}" "$pack/checkout/launch/offline_run.py" "$pack" "$@"
