# One image for the command, the UI and the daemon. `docker build -t speed .` takes the torch of the default registry, on Linux the
# CUDA build, whose libraries are added since it does not start without them; `--build-arg TORCH_INDEX_URL=...` names an index with
# another build, such as PyTorch's for CPUs (6 GB less).
# Parsed by a test of this project, not built by one.
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX_URL=
RUN useradd --create-home --uid 1000 speed && mkdir /home/speed/data && chown speed:speed /home/speed/data
WORKDIR /opt/speed
COPY requirements.lock requirements-torch.lock ./
RUN pip install --no-cache-dir --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r requirements-torch.lock \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
 && { python -c 'import torch' 2>/dev/null || pip install --no-cache-dir -r requirements-torch.lock; }
COPY pyproject.toml setup.py README.md LICENSE dagster.yaml workspace.yaml ./
COPY recipes recipes
COPY speed_assets speed_assets
COPY resources resources
COPY checks checks
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER speed
WORKDIR /home/speed/data
ENV SPEED_HOME=/home/speed/data/.speed OMP_WAIT_POLICY=PASSIVE
VOLUME /home/speed/data
EXPOSE 3000
ENTRYPOINT ["speed"]
CMD ["--help"]
