# What the team's code stands on: Python and the libraries of uv.lock, as a gRPC server.
# It is built when one of these changes. A deploy lays dagster_core/ on it as one more layer, in the
# registry: so no step here sees the code, and what a step needs of the checkout must be named in
# core.Dockerfile.dockerignore.
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
    /opt/uv/bin/uv sync --frozen --no-default-groups --compile-bytecode --python python3

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 dagster && \
    useradd --uid 10001 --gid dagster --create-home --home-dir /opt/dagster dagster && \
    mkdir -p /opt/dagster/home/storage && chown -R dagster:dagster /opt/dagster/home
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/opt/dagster/code
COPY --from=libraries /opt/venv /opt/venv
WORKDIR /opt/dagster/code
USER 10001:10001
