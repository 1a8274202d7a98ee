#!/bin/sh
# Makes /opt/venv from a lock: third-party packages only, every hash checked, wheels only, so that
# nothing is compiled. Byte code is written now, because a container cannot do it: its file system
# is read-only. Our own packages come later, under /opt/spinezoo, so that this layer stays shared.
set -eu
uv=/build/venv/bin/uv
"$uv" venv --quiet --no-config --python "$(command -v python3)" /opt/venv
/build/fetch.sh "$uv" pip install --no-config --python /opt/venv/bin/python --no-progress \
  --require-hashes --no-deps --only-binary :all: --compile-bytecode -r "$1"
packages=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The packages' own tests are no part of serving.
find "$packages" -type d -name tests -prune -exec rm -rf {} +
echo /opt/spinezoo > "$packages/spinezoo.pth"
