# An Orthanc for trying the DICOM node, from Debian's packages.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
RUN apt-get update \
 && apt-get install --yes --no-install-recommends orthanc orthanc-dicomweb \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -m 700 -o orthanc -g orthanc /var/lib/orthanc/db
USER orthanc
# The second file holds the registered users; it is made from the environment at the start.
CMD ["sh", "-c", "umask 077; : \"${ORTHANC_PASSWORD:?set SPINEZOO_ORTHANC_PASSWORD to the password that you want}\"; printf '{\"RegisteredUsers\":{\"zoo\":\"%s\"}}' \"$ORTHANC_PASSWORD\" > /tmp/users.json; mkdir -p /tmp/config; cp /etc/spinezoo/orthanc.json /tmp/users.json /tmp/config/; exec Orthanc /tmp/config"]
