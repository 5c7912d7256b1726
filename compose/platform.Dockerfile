# Webserver and daemon, from the same lock file as the code.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS uv
# `ca` holds the certificates of the machine that builds, for networks whose proxy re-signs.
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir uv==0.9.*

FROM uv AS libraries
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
WORKDIR /build
COPY pyproject.toml uv.lock ./
RUN --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/uv \
    if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    /opt/uv/bin/uv sync --frozen --only-group platform --compile-bytecode --python python3

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --create-home --home-dir /opt/dagster dagster && \
    mkdir -p /opt/dagster/home/storage && chown -R dagster:dagster /opt/dagster/home
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DAGSTER_HOME=/opt/dagster/home
COPY --from=libraries /opt/venv /opt/venv
COPY compose/platform/daemon.py /opt/dagster/daemon.py
# Fails the build when a new Dagster has no place for what the daemon is taught.
RUN ["python", "/opt/dagster/daemon.py", "--help"]
USER dagster
WORKDIR /opt/dagster/home
