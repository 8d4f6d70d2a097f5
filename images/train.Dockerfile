# The steps of the pipelines and training: KFP's executor, torch, MLflow, Ray Tune, and the Triton that measures what was exported.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-venv
COPY images/train.lock /opt/train.lock
RUN python3.11 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r /opt/train.lock

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-minimal libpython3.11-stdlib ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
# KubeRay starts Ray in login shells, whose PATH is /etc/profile's.
RUN echo 'PATH=/opt/venv/bin:$PATH' > /etc/profile.d/titrate.sh
COPY core /opt/titrate/core
COPY workloads /opt/titrate/workloads
COPY serving /opt/titrate/serving
COPY components /opt/titrate/components
COPY tuning /opt/titrate/tuning
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/opt/titrate PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/titrate
USER 10001:10001
ENTRYPOINT ["python"]
