# syntax=docker/dockerfile:1
#
# cubekit for the CPU (the last stage, the default) and for NVIDIA's GPUs:
#
#   docker build -t cubekit .
#   docker build -t cubekit:cuda --target cuda .
#
# PyPI's torch for Linux brings CUDA's libraries, some 4 GB. For a smaller image without them give the index of
# PyTorch's CPU wheels: --build-arg TORCH_INDEX=URL.

ARG PYTHON=3.12

# -- installs into /opt/cubekit; compilers and caches stay here ---------------------------------------------------------
FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/cubekit
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cubekit cubekit
ENV EXTRAS=unet,service,openvino,vector,parquet,netcdf

FROM build AS build-cpu
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then /opt/cubekit/bin/pip install --index-url "$TORCH_INDEX" torch torchvision; fi \
 && /opt/cubekit/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

FROM build AS build-cuda
RUN /opt/cubekit/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

# -- what runs: no compiler, no root ----------------------------------------------------------------------------------
FROM python:${PYTHON}-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin cubekit \
 && install --directory --owner cubekit --group cubekit /data /var/cache/cubekit
# Compiled kernels and fonts are cached where anybody may write, since the packages belong to root.
ENV PATH=/opt/cubekit/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/cubekit/numba \
    MPLCONFIGDIR=/var/cache/cubekit/matplotlib
WORKDIR /data
USER 10001
VOLUME /data
# SIGTERM ends each service after the commit at hand.
STOPSIGNAL SIGTERM
ENTRYPOINT ["cubekit"]
CMD ["--help"]

FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/cubekit /opt/cubekit

FROM runtime AS cpu
COPY --from=build-cpu /opt/cubekit /opt/cubekit
