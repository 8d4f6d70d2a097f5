# Triton (the server of the nvidia-pytriton wheel, Python backend) and the entry point that verifies a release before it starts.
# Carries no ray, kfp, mlflow or torch.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-venv
COPY images/serve.lock /opt/serve.lock
RUN python3.11 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r /opt/serve.lock

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-minimal libpython3.11 ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY core /opt/titrate/core
COPY serving/__init__.py /opt/titrate/serving/__init__.py
COPY serving/triton /opt/titrate/serving/triton
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/opt/titrate PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/titrate
USER 10001:10001
ENTRYPOINT ["python", "-m", "serving.triton"]
