#!/bin/sh
# Runs a command of the image build that downloads packages, with the site's own addresses and
# authorities. They come as BuildKit secrets: no layer and no history line ever holds them.
#   ca_bundle   certificate authorities, PEM: a proxy that inspects TLS, a mirror of one's own
#   index_url   package index in place of PyPI; may hold a user and a token
set -eu
if [ -s /run/secrets/ca_bundle ]; then
  export SSL_CERT_FILE=/run/secrets/ca_bundle PIP_CERT=/run/secrets/ca_bundle
fi
if [ -s /run/secrets/index_url ]; then
  UV_DEFAULT_INDEX=$(cat /run/secrets/index_url)
  PIP_INDEX_URL=$UV_DEFAULT_INDEX
  export UV_DEFAULT_INDEX PIP_INDEX_URL
fi
# One more index, for torch. Every package of a lock is checked by its hash, so it does not matter
# which of two indexes offers a version.
if [ -n "${TORCH_INDEX:-}" ]; then
  export UV_INDEX="$TORCH_INDEX" UV_INDEX_STRATEGY=unsafe-best-match
fi
export UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy UV_HTTP_TIMEOUT=300 UV_PYTHON_DOWNLOADS=never
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/cache/pip PIP_ROOT_USER_ACTION=ignore
exec "$@"
