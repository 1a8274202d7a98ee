# Every image of SpineZoo: one target, two build arguments.
#
#   FLAVOUR=    SERVICE=                                        third-party layer from
#   engine      services/*, on the CPU                          ENGINE_LOCK, the same for all five
#   torch       services/{deeplabv3,mask_rcnn,pspnet,yolact}    TORCH_LOCK; on GPUs, EXTRA=framework
#   tensorflow  services/unet                                   TENSORFLOW_LOCK; likewise
#   light       gateway, evaluator                              LIGHT_LOCK, the same for both
#
#   docker build --target image --build-arg FLAVOUR=engine --build-arg SERVICE=services/pspnet .
#
# The target node is the DICOM node: FLAVOUR=light, SERVICE=pacs, LIGHT_LOCK=locks/pacs.lock.
# `make images` builds them all and fills in version, card digest and tag; docs/containers.md tells
# the rest. There is no `# syntax=` line: the front end that is part of BuildKit is enough, and a
# site without a way to the public registry could not fetch another.

# Replace it by your mirror's, and pin it: BASE_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG FLAVOUR=engine
ARG ENGINE_LOCK=locks/engine.lock
ARG TORCH_LOCK=locks/torch.lock
ARG TENSORFLOW_LOCK=locks/tensorflow-gpu.lock
ARG LIGHT_LOCK=locks/core.lock

# ---- what all images run on ---------------------------------------------------------------------
FROM ${BASE_IMAGE} AS base
RUN groupadd --gid 10001 spinezoo \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin spinezoo
ENV LANG=C.UTF-8 \
    HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_DO_NOT_TRACK=True \
    SPINEZOO_HOST=0.0.0.0
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-m", "spinezoo_serving.health"]

# ---- build stages: nothing of them is in an image but what is copied or installed from them -----
FROM base AS tools
COPY deploy/images/fetch.sh deploy/images/framework.sh deploy/images/slim.sh deploy/images/distributions.py deploy/images/tools.lock /build/
RUN --mount=type=cache,id=spinezoo-packages,target=/cache,sharing=locked \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=index_url \
    python3 -m venv /build/venv \
 && /build/fetch.sh /build/venv/bin/pip install --quiet --require-hashes -r /build/tools.lock

# What an image adds to its framework layer: our own packages, built as wheels and installed under
# /opt/spinezoo, and the service's files. Modes are set here: a checkout made with a strict umask
# must not make an image that its user cannot read.
FROM tools AS service-files
ARG SERVICE
ARG EXTRA=
ARG CARD_SHA256=unknown
COPY libs /source/libs
COPY ${SERVICE} /source/${SERVICE}
WORKDIR /source
RUN test -n "${SERVICE}" || { echo "say which service: --build-arg SERVICE=services/pspnet" >&2; exit 1; } \
 && mkdir -p /wheels "/out/app/${SERVICE}" \
 && for room in $(python3 /build/distributions.py "${SERVICE}" ${EXTRA}); do \
      /build/venv/bin/uv build --quiet --offline --no-config --wheel --no-build-isolation \
        --python /build/venv/bin/python --out-dir /wheels "$room" || exit 1; \
    done \
 && /build/venv/bin/uv pip install --quiet --offline --no-config --no-cache --no-deps --compile-bytecode \
      --python "$(command -v python3)" --target /out/opt/spinezoo /wheels/*.whl \
 && for part in service.py card.yaml weights roster.yaml; do \
      if [ -e "${SERVICE}/$part" ]; then cp -r "${SERVICE}/$part" "/out/app/${SERVICE}/"; fi; \
    done \
 && chmod -R a+rX,go-w /out \
 && if [ "${CARD_SHA256}" != unknown ]; then echo "${CARD_SHA256}  ${SERVICE}/card.yaml" | sha256sum --check --quiet; fi

FROM scratch AS engine-lock
ARG ENGINE_LOCK
COPY ${ENGINE_LOCK} /requirements.lock

FROM scratch AS torch-lock
ARG TORCH_LOCK
COPY ${TORCH_LOCK} /requirements.lock

FROM scratch AS tensorflow-lock
ARG TENSORFLOW_LOCK
COPY ${TENSORFLOW_LOCK} /requirements.lock

FROM scratch AS light-lock
ARG LIGHT_LOCK
COPY ${LIGHT_LOCK} /requirements.lock

# ---- framework layers: third-party packages only, hashes checked, wheels only (no compiler) -----
# The installer is mounted, not copied. Byte code is written now, because a container cannot do it:
# its file system is read-only.
FROM base AS engine-framework
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    --mount=type=bind,from=engine-lock,target=/lock \
    --mount=type=cache,id=spinezoo-packages,target=/cache \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=index_url \
    /build/framework.sh /lock/requirements.lock \
 && /build/slim.sh
CMD ["python", "-m", "spinezoo_serving.bento", "."]

FROM base AS torch-framework
ARG TORCH_INDEX=
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    --mount=type=bind,from=torch-lock,target=/lock \
    --mount=type=cache,id=spinezoo-packages,target=/cache \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=index_url \
    TORCH_INDEX="${TORCH_INDEX}" /build/framework.sh /lock/requirements.lock
CMD ["python", "-m", "spinezoo_serving.bento", "."]

FROM base AS tensorflow-framework
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    --mount=type=bind,from=tensorflow-lock,target=/lock \
    --mount=type=cache,id=spinezoo-packages,target=/cache \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=index_url \
    /build/framework.sh /lock/requirements.lock
# TensorFlow takes a whole GPU unless told not to; five networks may share one.
ENV TF_FORCE_GPU_ALLOW_GROWTH=true TF_CPP_MIN_LOG_LEVEL=1
CMD ["python", "-m", "spinezoo_serving.bento", "."]

FROM base AS light-framework
RUN --mount=type=bind,from=tools,source=/build,target=/build \
    --mount=type=bind,from=light-lock,target=/lock \
    --mount=type=cache,id=spinezoo-packages,target=/cache \
    --mount=type=secret,id=ca_bundle --mount=type=secret,id=index_url \
    /build/framework.sh /lock/requirements.lock
# Its folder is its name: /app/gateway.
CMD ["sh", "-c", "exec python -m spinezoo_${PWD##*/}.serve"]

# ---- the image: a few MB on top of its framework layer ------------------------------------------
FROM ${FLAVOUR}-framework AS image
ARG SERVICE
ARG VERSION=unknown
ARG IMAGE=
ARG CARD_SHA256=unknown
COPY --from=service-files /out /
WORKDIR /app/${SERVICE}
USER 10001:10001
ENV SPINEZOO_IMAGE=${IMAGE}
LABEL org.opencontainers.image.title="spinezoo ${SERVICE}" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" spinezoo.card.sha256="${CARD_SHA256}"

# ---- the DICOM node: an image of the flavour light with a folder that it may write --------------
FROM image AS node
USER root
RUN install -d -m 700 -o 10001 -g 10001 /var/lib/spinezoo
USER 10001:10001
CMD ["python", "-m", "spinezoo_pacs.node.serve", "/etc/spinezoo/node.yaml"]
