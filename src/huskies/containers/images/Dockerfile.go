# For projects in Go.
ARG BASE_IMAGE=huskies-base
FROM ${BASE_IMAGE}
USER root
RUN set -eu; needed=; \
    command -v go >/dev/null || needed="$needed golang-go"; \
    if [ -n "$needed" ]; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $needed; \
        rm -rf /var/lib/apt/lists/*; \
    fi
USER dev
