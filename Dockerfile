# One image for the command, the UI and the daemon: `docker build -t speed .` has torch for CPUs;
# `--build-arg TORCH_INDEX=cu128` has the CUDA build, which takes about 6 GB more. Not built by this project's tests.
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=cpu
# Another registry of the torch builds, such as a mirror; its folders are named cpu, cu128, ...
ARG TORCH_URL=https://download.pytorch.org/whl
RUN useradd --create-home --uid 1000 speed && mkdir /home/speed/data && chown speed:speed /home/speed/data
WORKDIR /opt/speed
COPY requirements.lock requirements-torch.lock ./
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_URL/$TORCH_INDEX" -r requirements-torch.lock \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
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
