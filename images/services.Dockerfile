# The operator, and the services beside it: gateway, feedback. Carries no ray, kfp, mlflow, torch or Triton.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-venv
COPY images/services.lock /opt/services.lock
RUN python3.11 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir -r /opt/services.lock

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3.11-minimal libpython3.11-stdlib ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/venv /opt/venv
COPY core /opt/titrate/core
COPY workloads /opt/titrate/workloads
COPY serving /opt/titrate/serving
COPY titrate /opt/titrate/titrate
ENV PATH=/opt/venv/bin:/usr/bin:/bin PYTHONPATH=/opt/titrate PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/titrate
USER 10001:10001
ENTRYPOINT ["python", "-m", "titrate.operator"]
